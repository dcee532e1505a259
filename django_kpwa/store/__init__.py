"""All SQL of the outbox, and all changes of its state, behind one object: `store()`.

`models` describes the tables; what writes a status, or a column of a lane, stands here and nowhere else.
"""

from .engine import Store, store

__all__ = ["Store", "store"]
