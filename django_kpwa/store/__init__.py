"""All SQL of the outbox, and all changes of its state, behind one object: `store()`.

`models` describes the tables. Only this package writes a status or a lane's columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Store

__all__ = ["store"]


def store() -> Store:
    """Return the store of the database to which the site's routers send the outbox's writes."""
    # Imported here, because it takes as long as importing all models, and not every process needs a store.
    from . import engine

    return engine.store()
