"""The gateway's contract from the other side: DRF views that put a `Gateway` behind the documented HTTP shapes.

`openapi.yaml` beside this file is what every answer is held against.
"""

from .routes import urls

__all__ = ["urls"]
