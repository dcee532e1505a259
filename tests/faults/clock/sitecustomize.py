"""Makes this process's clock wrong by `KPWA_TEST_CLOCK_SECONDS`, for all Python code.

Python imports a module of this name by itself, before any code of the site, if this folder is on its path.
"""

from __future__ import annotations

import datetime
import os
import time

_SECONDS = float(os.environ.get("KPWA_TEST_CLOCK_SECONDS", "0"))
_OFFSET = datetime.timedelta(seconds=_SECONDS)
_Real = datetime.datetime
_real_time = time.time


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real)


class _Wrong(_Real, metaclass=_Kind):
    """Makes ordinary datetimes, so that only the clock is unusual."""

    def __new__(cls, *args: object, **kwargs: object) -> datetime.datetime:
        return _Real(*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return _Real.now(tz) + _OFFSET

    @classmethod
    def utcnow(cls) -> datetime.datetime:
        return _Real.now(datetime.timezone.utc).replace(tzinfo=None) + _OFFSET

    @classmethod
    def today(cls) -> datetime.datetime:
        return cls.now()


if _SECONDS:
    datetime.datetime = _Wrong
    time.time = lambda: _real_time() + _SECONDS
