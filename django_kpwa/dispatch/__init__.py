"""Sending: `drive` drives one license's lane, `sweep` finds the lanes that need driving."""

from .drive import Driven, drive
from .sweep import Swept, sweep

__all__ = ["Driven", "Swept", "drive", "sweep"]
