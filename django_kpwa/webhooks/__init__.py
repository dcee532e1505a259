"""What the gateway tells us: `views` receives, `arrivals` stores, `parsers` understands, `processing` acts.

The view is imported by `django_kpwa.urls` alone, so that a worker needs no part of it.
"""

from .parsers import DefaultParser, ParsedEvent, Parser
from .processing import process_due_events, process_event, reprocess

__all__ = ["DefaultParser", "ParsedEvent", "Parser", "process_due_events", "process_event", "reprocess"]
