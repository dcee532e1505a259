"""The gateway's webhooks: `views` receives them, `arrivals` stores them, `parsers` reads them, and `processing` acts.

Only `django_kpwa.urls` imports the view, so that a worker does not load it.
"""

from .parsers import DefaultParser, ParsedEvent, Parser
from .processing import process_due_events, process_event, reprocess

__all__ = ["DefaultParser", "ParsedEvent", "Parser", "process_due_events", "process_event", "reprocess"]
