"""A shop's month, day by day; see `new_number`."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from datetime import datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

import psutil
from django.utils import timezone

from django_kpwa.models import (
    DatabaseNow,
    HoldReason,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    Status,
    WebhookEvent,
)
from django_kpwa.outbox import Message, send_messages
from tests.integration.times import pass_time
from tests.sandbox import SandboxProcess

from .harness import Shop, wait_for

REGULARS = 900
ANSWERS = 4
"""One in this many regular customers answers each receipt, and is not a new customer from then on."""
WORKERS = 4


def _next_midnight() -> datetime:
    return datetime.combine(timezone.localdate() + timedelta(days=1), time_of_day(), timezone.get_current_timezone())


class Month(Shop):
    def __init__(self, folder: Path, phone: SandboxProcess, in_use: int) -> None:
        super().__init__(folder, phone)
        since = timezone.localdate() - timedelta(days=in_use)
        License.objects.update(in_use_since=since, pace_min_seconds=0, pace_max_seconds=0)
        self.draw = random.Random(20161101)
        self.killed = self.in_doubt = self.sales = self.seen = 0
        self.broken: list[str] = []

    def start(self) -> None:
        self.start_web()
        self.register_webhook(self.license)
        self.worker = self.start_worker(concurrency=WORKERS)
        self.start_beat()

    def live_through(self, day: int, count: int) -> str:
        """One day of `count` sales; returns its row of the table."""
        numbers = [f"62813{self.draw.randrange(REGULARS):07}" for _ in range(count)]
        first = self.sales
        self.sales += count
        send_messages(
            Message(number, f"Struk {first + place}", license=self.license, idempotency_key=f"struk-{first + place}")
            for place, number in enumerate(numbers)
        )
        self._kill_one()
        wait_for(lambda: not self._has_work(), "the shop's closing", 300)
        self._let_evening_come()
        wait_for(lambda: not self._has_work(), "the end of the day", 300)
        limit = License.objects.get().cold_limit_on(timezone.localdate())
        arrived = self.phone.ledger()[self.seen :]
        self.seen += len(arrived)
        new = {(delivery["recipient"], delivery["text"]) for delivery in arrived if delivery["is_cold"]}
        if limit is not None and (len(new) > limit or Lane.objects.get().cold_sent > limit):
            self.broken.append(f"day {day + 1}: {len(new)} messages to new customers, at most {limit}")
        waiting = OutboundMessage.objects.filter(status=Status.QUEUED).count()
        for number in sorted({delivery["recipient"] for delivery in arrived}):
            if int(number) % ANSWERS == 0:
                self.phone.answer("Terima kasih", chat=number, license=self.license.name)
        wait_for(lambda: not WebhookEvent.objects.filter(status="pending").exists(), "the webhooks", 120)
        self.in_doubt = OutboundMessage.objects.filter(status=Status.UNKNOWN).count()
        wait_for(lambda: not self._has_work(), "what waited for an answer", 300)
        self._pass_a_day()
        todays = sum(int(text.partition(" ")[2]) >= first for _, text in new)
        cells = (day + 1, limit or "none", count, len(new), todays, len(arrived) - len(new), waiting)
        return f"| {' | '.join(map(str, cells))} |"

    def _kill_one(self) -> None:
        time.sleep(self.draw.uniform(0, 0.3))
        children = psutil.Process(self.worker.pid).children()
        if children:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.draw.choice(children).send_signal(signal.SIGKILL)
                self.killed += 1

    def _has_work(self) -> bool:
        waiting = OutboundMessage.objects.filter(status__in=[Status.QUEUED, Status.SENDING])
        held = OutboundMessage.objects.put_off().filter(reason=HoldReason.COLD_LIMIT)
        return waiting.exclude(pk__in=held.values("pk")).exists() or Lane.objects.exclude(lease_token=None).exists()

    def _let_evening_come(self) -> None:
        held = OutboundMessage.objects.put_off().filter(reason=HoldReason.COLD_LIMIT, due_at__lt=_next_midnight())
        held.update(due_at=DatabaseNow())

    def _pass_a_day(self) -> None:
        HourlyStatistic.objects.all().delete()  # two of them would have one hour for a moment
        pass_time(days=1)
        held = OutboundMessage.objects.filter(status=Status.QUEUED, reason=HoldReason.COLD_LIMIT)
        held.update(due_at=_next_midnight() - timedelta(seconds=1))
        for model, name in ((Lane, "cold_day"), (License, "in_use_since"), (OutboundMessage, "cold_on")):
            days = model.objects.exclude(**{name: None}).values_list(name, flat=True).distinct().order_by(name)
            for each in list(days):
                model.objects.filter(**{name: each}).update(**{name: each - timedelta(days=1)})
