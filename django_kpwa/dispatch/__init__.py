"""Sending: `drive` drives one license's lane; `sweep` and `look` find the lanes that have to be driven."""

from .driver import Driven, drive
from .sweeper import Swept, look, sweep

__all__ = ["Driven", "Swept", "drive", "look", "sweep"]
