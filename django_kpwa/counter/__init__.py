"""For the counter, without the admin: what `{% load kpwa_counter %}` shows, and the views its buttons post to."""

from .chips import messages_about, prefetch_messages

__all__ = ["messages_about", "prefetch_messages"]
