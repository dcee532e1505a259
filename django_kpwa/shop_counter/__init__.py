"""What the staff at a shop's counter see on the site's own pages: the banner and chips of `{% load kpwa_counter %}`.

The admin need not be installed.
"""

from .chips import messages_about, prefetch_messages

__all__ = ["messages_about", "prefetch_messages"]
