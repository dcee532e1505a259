"""Widgets for the shop's staff on the site's own pages: the banner and chips of `{% load kpwa_counter %}`.

They also work on a site that has not installed Django's admin.
"""

from .chips import messages_about, prefetch_messages

__all__ = ["messages_about", "prefetch_messages"]
