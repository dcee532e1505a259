"""All SQL of the outbox, and all changes of its state, behind one object: `store()`.

`models` describes the tables. Only this package writes a status or a lane's columns.
"""

from .engine import Store, store

__all__ = ["Store", "store"]
