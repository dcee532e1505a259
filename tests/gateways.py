"""A gateway in memory that lets a test run code in the middle of a call."""

from __future__ import annotations

from django_kpwa.gateway import ServiceStatus
from django_kpwa.gateway.locmem import LocmemGateway

HOOKED = "tests.gateways.HookedGateway"


class HookedGateway(LocmemGateway):
    """Calls `before_send(text)` and `after_send(text)` around each send. The send raises their exceptions.

    It calls `on_status()` before it answers a status. If that returns a `ServiceStatus`, that is the answer.
    """

    before_send = None
    after_send = None
    on_status = None

    def _send(self, to, group_name, text, image_url):
        kind = type(self)
        if kind.before_send:
            kind.before_send(text)
        sent = super()._send(to, group_name, text, image_url)
        if kind.after_send:
            kind.after_send(text)
        return sent

    def get_status(self, *, deadline_seconds=None):
        answer = type(self).on_status() if type(self).on_status else None
        if isinstance(answer, ServiceStatus):
            return answer
        return super().get_status(deadline_seconds=deadline_seconds)
