"""Sending: `drive` drives one license's lane, `sweep` finds the lanes that need driving."""

from .driver import Driven, drive
from .sweeper import Swept, sweep

__all__ = ["Driven", "Swept", "drive", "sweep"]
