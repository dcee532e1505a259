"""Alerts people when `health` finds that receipts do not go out: by e-mail, by JSON posted to URLs, and by signals.

`compare` decides what to send, `texts` words it, and `ways` delivers it. The field `tells` of a finding's row in
`words` says which alert the finding opens.
"""

from .compare import check, check_soon
from .texts import Told
from .ways import Way, body_of, try_ways

__all__ = ["Told", "Way", "body_of", "check", "check_soon", "try_ways"]
