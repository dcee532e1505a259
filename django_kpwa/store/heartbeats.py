"""Which processes of the site are alive, stored in the database so that another process (the admin) can show it."""

from __future__ import annotations

import time

from ..containing import contained
from ..logs import get_logger
from ..models import DatabaseNow, Heartbeat, outbox_key, write_alias
from .locks import brief_statements, brief_transaction, lacks_tables, waited_too_long

logger = get_logger("django_kpwa.heartbeats")

NOTE_EVERY_SECONDS = 30.0
_noted_at: dict[tuple[tuple[str, str], str], float] = {}


def note_alive(name: str) -> None:
    """Store that the part `name` of this process (see `Heartbeat`) is alive. Never raises an exception.

    Does nothing if that was stored less than `NOTE_EVERY_SECONDS` ago. If a frozen process has locked the same row,
    this gives up after `locks.TAKE_SECONDS`.
    """
    now, key = time.monotonic(), (outbox_key(), name)
    if now - _noted_at.get(key, -NOTE_EVERY_SECONDS) < NOTE_EVERY_SECONDS:
        return
    # Set before the write, and so even if that fails. Otherwise every task would try an unreachable database again.
    _noted_at[key] = now
    using = write_alias()
    with contained(using) as caught:
        # An idle site does little else, so this is a single statement. With a transaction it would be four.
        with brief_statements(using):
            is_known = Heartbeat.objects.renew(name)
        if not is_known:
            with brief_transaction(using):
                Heartbeat.objects.note(name)
    if caught.error is not None and not lacks_tables(caught.error):
        logger.warning("The heartbeat of %s could not be stored (%s).", name, type(caught.error).__name__)


def takes_changes() -> bool:
    """True if the outbox's database accepts writes. This is tested with an UPDATE that matches no row."""
    using = write_alias()
    with contained(using) as caught, brief_statements(using):
        Heartbeat.objects.filter(name="").update(seen_at=DatabaseNow())
    return caught.error is None or waited_too_long(caught.error)
