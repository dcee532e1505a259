"""The forms of the store: for PostgreSQL, portable, and portable for databases whose INSERT returns no rows."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from unittest import mock

from django.db import connection

from django_kpwa.store import engine, events, messages, store
from django_kpwa.store.results import Lease, LeaseLost

FORMS = ["postgresql", "portable"] if connection.vendor == "postgresql" else ["portable"]
INSERTS = [*FORMS, "as on MySQL"]


def take_lane(license_id, seconds=60.0, max_attempts=6):
    """Take a lane as a driver does. Returns the lease (None if another has it) and the next step."""
    lease = Lease(license_id)
    step = store().take_lease(lease, seconds, resend_lost=False, max_attempts=max_attempts)
    return (None if isinstance(step.next, LeaseLost) else lease), step


@contextmanager
def stored_by(form):
    """Make `store()` use this form."""
    with ExitStack() as stack:
        if form != "postgresql":
            stack.enter_context(mock.patch.dict(engine.ENGINES, clear=True))
        if form == "as on MySQL":
            for module in (messages, events):
                stack.enter_context(mock.patch.object(module, "can_write", return_value=False))
        yield
