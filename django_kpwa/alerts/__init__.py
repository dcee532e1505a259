"""Tells people what `health` finds, where it keeps receipts from going out: by e-mail, at addresses and by signals.

`compare` decides what is told, `texts` says it, and `ways` lead out. Which findings tell is a field of their rows in
`words` (`tells`).
"""

from .compare import check, check_soon
from .texts import Told
from .ways import Way, body_of, try_ways

__all__ = ["Told", "Way", "body_of", "check", "check_soon", "try_ways"]
