"""The gateway's webhooks: `views` receives them, `arrivals` stores them, `parsers` reads them, and `processing` acts.

Only `django_kpwa.urls` imports the view, so that a worker does not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .parsers import DefaultParser, ParsedEvent, Parser
    from .processing import process_due_events, process_event, reprocess

__all__ = ["DefaultParser", "ParsedEvent", "Parser", "process_due_events", "process_event", "reprocess"]

_MODULES = {"DefaultParser": "parsers", "ParsedEvent": "parsers", "Parser": "parsers"}


def __getattr__(name: str) -> Any:
    """Import the names of `__all__` when they are first used: the view needs none of them, and every web process and
    every management command that reads the site's URLs imports the view."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'processing')}", __name__), name)
