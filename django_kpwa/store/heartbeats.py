"""Which processes of the site are alive, noted in the database for the people who look at another process's page."""

from __future__ import annotations

import time

from ..containing import contained
from ..logs import get_logger
from ..models import Heartbeat, outbox_key, write_alias
from .locks import brief_transaction, lacks_tables

logger = get_logger("django_kpwa.heartbeats")

NOTE_EVERY_SECONDS = 30.0
_noted_at: dict[tuple[tuple[str, str], str], float] = {}


def note_alive(name: str, *, at_once: bool = False) -> None:
    """Note, at most every `NOTE_EVERY_SECONDS` of this process, that its part called `name` is alive. Never raises.

    `at_once`: whenever it was noted last. Another that stands still in the middle of the same note is not waited for.
    """
    now, key = time.monotonic(), (outbox_key(), name)
    if not at_once and now - _noted_at.get(key, -NOTE_EVERY_SECONDS) < NOTE_EVERY_SECONDS:
        return
    # Also where it fails: a database that is away is not asked again by every task.
    _noted_at[key] = now
    using = write_alias()
    with contained(using) as caught, brief_transaction(using):
        Heartbeat.objects.note(name)
    if caught.error is not None and not lacks_tables(caught.error):
        logger.warning("That %s is alive could not be noted (%s).", name, type(caught.error).__name__)
