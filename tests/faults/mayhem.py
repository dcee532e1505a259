"""The site of the long campaign: sells, breaks something every few seconds, and decides as a person would."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import redis
from django.db import DatabaseError, InterfaceError, connection, models, transaction
from django.utils import timezone

from django_kpwa import license_actions, outbox
from django_kpwa.conf import kpwa_settings
from django_kpwa.exceptions import RecipientStoppedError
from django_kpwa.models import (
    ARRIVED,
    HoldReason,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    Recipient,
    SendAttempt,
    WebhookEvent,
)
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.wake import wake_license_on_commit
from tests.integration.misbehaving import free_port
from tests.processes import RunningProcess
from tests.sandbox import SandboxProcess

from . import campaign, invariants
from .harness import KEY, Shop, wait_for

WORKERS = 2
CHILDREN = 4
_BATCH = 100
_MAX_WAITING = 2000
_KNOWN = 10

Deed = Callable[["Mayhem"], None]


class Mayhem(Shop):
    def __init__(self, folder: Path, phone: SandboxProcess, draw: random.Random, seed: int) -> None:
        waits = {
            f"django_kpwa.{module}.RESTRICTED_SECONDS": campaign.WAITS_SECONDS
            for module in ("pace", "store.restriction", "store.new_customers")
        } | {"django_kpwa.store.new_customers.PROVEN_SECONDS": campaign.WAITS_SECONDS[0]}
        super().__init__(folder, phone, PUBLIC_URL="http://127.0.0.1", DEFAULT_LICENSE="Toko", **waits)
        self.draw = draw
        self.deeds: Counter[str] = Counter()
        self.licenses = [self.license, *(self._another(n) for n in range(1, campaign.LICENSES))]
        self.secrets |= {f"{KEY}{n}" for n in range(1, campaign.LICENSES)}
        # A license whose number is new, until the faults end.
        self.new = self.licenses[2]
        License.objects.filter(pk=self.new.pk).update(cold_limit=campaign.NEW_CUSTOMERS)
        self._found: list[invariants.Violation] = []
        plan = {"do": ["kill", "stop"], "rate": campaign.FAILPOINT_RATE, "seed": seed}
        self._failpoints = dict.fromkeys(campaign.FAILPOINTS, plan)
        self._workers: list[RunningProcess] = []
        self._beat: RunningProcess | None = None
        self._web: RunningProcess | None = None
        self._frozen: dict[int, float] = {}
        self._struck: set[str] = set()
        # Drawn without replacement, like cards, so that a run misses none of them. Even a short run sees a restriction.
        self._drawn: list[Deed] = [_whatsapp_restricts_the_numbers, _customers_write, _kill_a_child]
        self._next_deed_at = 0.0
        self._deployed_at = float("inf")
        self._deployments = 0
        self._unrestricted_at = float("inf")
        self._restrictions = 0
        self._holding: list[threading.Thread] = []
        if self.broker_url.startswith("redis"):
            # The first broker of the site's list is gone, so every process uses the second.
            self.brokers_before = f"redis://127.0.0.1:{free_port()}/0;"
            self.use_broker(self.broker_url)

    def _another(self, n: int) -> License:
        license_ = License(name=campaign.license_name(n))
        license_.set_api_key(f"{KEY}{n}")
        license_.save()
        return license_

    # --- the run ---

    def run(self, count: int) -> None:
        self._start()
        self.phone.set_faults(**campaign.FAULTS)
        sold = 0
        while sold < count:
            if self._waiting() < _MAX_WAITING:
                sold += self._sell_some(sold, min(_BATCH, count - sold))
            self.look_round()
            time.sleep(0.05)
        self.settle(seconds=7200)
        self.calm()
        self.settle()

    def _start(self) -> None:
        self.start_web()
        self._web = self.processes[-1]
        self._workers = [self.start_broken_worker() for _ in range(WORKERS)]
        self._beat = self.start_beat()
        # Half of the licenses receive webhooks.
        for license_ in self.licenses[::2]:
            self.register_webhook(license_)

    def start_broken_worker(self) -> RunningProcess:
        return self.start_worker(concurrency=CHILDREN, **self._failpoints)

    def _sell_some(self, first: int, count: int) -> int:
        """Mostly messages in one statement, and some sales with their receipts."""
        self.numbers |= {f"62813{n:07}" for n in range(first, first + count)}
        sales = count // 10
        self.sell(sales)
        if connection.vendor != "sqlite":
            self.deeds["connection lost in a sale"] += self.sell_losing_the_connection(
                self.draw.randrange(campaign.SALE_STATEMENTS)
            )
        send_messages(
            Message(f"0813{n:07}", f"Pesan {n}", license=self.draw.choice(self.licenses), idempotency_key=f"pesan-{n}")
            for n in range(first + sales, first + count)
        )
        self._send_to_known(first)
        return count

    def _send_to_known(self, first: int) -> None:
        """Messages to customers who have written; one of them may just have asked to stop."""
        written = Recipient.objects.filter(last_inbound_at__isnull=False, stopped_at=None).order_by("-last_inbound_at")
        for place, known in enumerate(written.select_related("license")[:_KNOWN]):
            key = f"{invariants.KNOWN}{first}-{place}"
            with contextlib.suppress(RecipientStoppedError):
                send_message(known.number, f"Pesan {key}", license=known.license, idempotency_key=key)

    def _waiting(self) -> int:
        waiting = OutboundMessage.objects.filter(status__in=["queued", "sending"])
        return waiting.exclude(reason__in=HoldReason.values).count()

    # --- faults and decisions ---

    def look_round(self) -> None:
        """Called all the time: does the next deed when its time has come, thaws processes, and makes a person's
        decisions."""
        now = time.monotonic()
        self._note_struck()
        for pid in [pid for pid, thaws_at in self._frozen.items() if thaws_at <= now]:
            del self._frozen[pid]
            with contextlib.suppress(ProcessLookupError):
                self.thaw(pid)
        if now >= self._deployed_at:
            self._end_deployment()
        if now >= self._unrestricted_at:
            self._end_restriction()
        if now >= self._next_deed_at:
            self._next_deed_at = now + self.draw.uniform(*campaign.KILL_SECONDS)
            if not self._drawn:
                self._drawn = self.draw.sample(DEEDS, len(DEEDS))
            deed = self._drawn.pop()
            deed(self)
            self.deeds[deed.__name__.replace("_", " ").strip()] += 1
        self._decide()

    def _end_deployment(self) -> None:
        self._deployed_at = float("inf")
        self.phone.set_faults(bad_gateway_502=0, unavailable_503=0)

    def _end_restriction(self) -> None:
        self._unrestricted_at = float("inf")
        self.phone.set_faults(**dict.fromkeys(campaign.RESTRICTIONS, 0))

    def _note_struck(self) -> None:
        """Processes that a failpoint froze are thawed as well."""
        for file in self.folder.glob("reached-*"):
            if file.name not in self._struck:
                self._struck.add(file.name)
                action, pid = file.read_text().split()
                self.deeds[f"{action} at {file.name.removeprefix('reached-').split('.')[0]}"] += 1
                if action == "stop":
                    self._freeze_noted(int(pid))

    def _freeze_noted(self, pid: int) -> None:
        self._frozen[pid] = time.monotonic() + self.draw.uniform(*campaign.FROZEN_SECONDS)

    def _decide(self) -> None:
        """As a person: link what was logged out, replace refused keys, and decide about one message in doubt."""
        for lane in Lane.objects.exclude(pause_reason="").select_related("license"):
            is_refused = lane.paused_key_version == lane.license.api_key_version
            if lane.pause_reason == PauseReason.UNAUTHORIZED and is_refused:
                n = self.licenses.index(lane.license)
                lane.license.set_api_key(f"{KEY}{n or ''}")
                lane.license.save()
                self.deeds["key replaced"] += 1
            elif lane.pause_reason == PauseReason.LOGGED_OUT:
                self.phone.scan(lane.license.name)
        message = OutboundMessage.objects.undecided().order_by("pk").first()
        if message is None:
            return
        decision = self.draw.choice(["resend", "dismiss", "dismiss"])
        if decision == "resend":
            with contextlib.suppress(RecipientStoppedError):
                self.resends[message.pk] += outbox.resend(message)
        elif decision == "dismiss":
            outbox.dismiss(message)

    def is_busy(self) -> bool:
        self.look_round()
        self._found += invariants.check_known_wait_for_nothing()
        waits_for_person = Lane.objects.filter(pause_reason__in=["unauthorized", "logged_out"]).exists()
        # Restricted messages have to go out by themselves. Those to people who were tried already wait for a day.
        soon = timezone.now() + timedelta(hours=1)
        restricted = OutboundMessage.objects.put_off().filter(reason=HoldReason.RESTRICTED, due_at__lt=soon)
        return super().is_busy() or waits_for_person or restricted.exists()

    def calm(self) -> None:
        """End all faults, thaw everything, and wait until webhooks are processed. The new number becomes an old one,
        and a person releases the messages that a restriction puts off until tomorrow."""
        self.phone.clear_faults()
        self._found += invariants.check_new_customers(self.phone.ledger(), self.new.name, campaign.NEW_CUSTOMERS)
        License.objects.filter(pk=self.new.pk).update(cold_limit=None)
        if store().end_cold_holds(self.new.pk):
            wake_license_on_commit(self.new.pk)
        for license_ in self.licenses:
            license_actions.end_restriction(license_)
        self._next_deed_at = self._deployed_at = self._unrestricted_at = float("inf")
        for thread in self._holding:
            thread.join()
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                self.thaw(pid)
        self._frozen.clear()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self._unprocessed(), "the webhooks", 60)
        time.sleep(5)

    def _unprocessed(self) -> int:
        return WebhookEvent.objects.filter(status="pending").count()

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for worker in self._workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(worker.pid).children()
        return found

    def violations(self) -> list[invariants.Violation]:
        limit = campaign.MAX_TRIES * self._restrictions
        return [
            *super().violations(),
            *self._burned_by_deployments(),
            *self._found,
            *invariants.check_stops(self.phone.ledger()),
            *invariants.check_restrictions(limit),
        ]

    def _burned_by_deployments(self) -> list[invariants.Violation]:
        """A gateway that is being deployed costs each license a handful of attempts, whatever it answers in turn."""
        burned = SendAttempt.objects.filter(http_status__in=[502, 503]).count()
        # The failures before the pause, and one more if a probe fell between two answers; twice that because of kills.
        allowed = 2 * (kpwa_settings().FAILURES_BEFORE_PAUSE + 1) * len(self.licenses) * self._deployments
        if burned <= allowed:
            return []
        words = f"{burned} attempts in {self._deployments} deployments of the gateway; at most {allowed} are allowed"
        return [invariants.Violation("N", words)]

    def summary(self, seconds: float) -> str:
        attempts = Counter(
            f"{outcome} {cause}".strip() for outcome, cause in SendAttempt.objects.values_list("outcome", "cause")
        )
        lines = [
            f"{seconds / 60:.1f} minutes, {len(self.licenses)} licenses, {connection.vendor}.",
            f"Messages: {_words(Counter(self.statuses()))}.",
            f"Attempts: {_words(attempts)}.",
            f"The phone accepted {self.arrived()}; {sum(self.resends.values())} resends were asked for.",
            f"Webhooks stored: {WebhookEvent.objects.count()}.",
            f"Deeds: {_words(self.deeds)}.",
            "",
        ]
        return "\n".join(lines)


# --- the deeds ---


def _kill_a_child(site: Mayhem) -> None:
    children = site.children()
    if children:
        with contextlib.suppress(psutil.NoSuchProcess):
            site.draw.choice(children).send_signal(signal.SIGKILL)


def _freeze_a_child(site: Mayhem) -> None:
    children = site.children()
    if children:
        child = site.draw.choice(children)
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGSTOP)
            site._freeze_noted(child.pid)


def _kill_a_worker(site: Mayhem) -> None:
    at = site.draw.randrange(len(site._workers))
    site._workers[at].kill_all()
    site._workers[at] = site.start_broken_worker()


def _stop_a_worker(site: Mayhem) -> None:
    at = site.draw.randrange(len(site._workers))
    # It waits for its children, and one of them may be frozen.
    site._workers[at].process.send_signal(signal.SIGTERM)
    with contextlib.suppress(Exception):
        site._workers[at].process.wait(timeout=5)
    site._workers[at].kill_all()
    site._workers[at] = site.start_broken_worker()


def _kill_the_beat(site: Mayhem) -> None:
    site._beat.kill_all()
    site._beat = site.start_beat()


def _kill_the_web_server(site: Mayhem) -> None:
    """Restart at the same port, because the phone knows its address."""
    site._web.kill_all()
    site._web = site.start_manage("runserver", "--noreload", site.web_url.removeprefix("http://"))


def _flush_the_broker(site: Mayhem) -> None:
    with redis.Redis.from_url(site.broker_url) as client:
        client.flushdb()


def _deploy_the_gateway(site: Mayhem) -> None:
    """502 and 503 in turn, for some seconds."""
    site.phone.set_faults(bad_gateway_502=0.5, unavailable_503=1)
    site._deployments += 1
    site._deployed_at = time.monotonic() + site.draw.uniform(*campaign.DEPLOY_SECONDS)


def _a_customer_stops(site: Mayhem) -> None:
    """A recipient of a queued message or one in progress, at a license whose webhooks come."""
    license_ = site.draw.choice(site.licenses[::2])
    waiting = OutboundMessage.objects.filter(license=license_, status__in=["queued", "sending"])
    message = waiting.filter(idempotency_key__startswith="pesan-").order_by("status", "-pk").first()
    if message is not None:
        site.phone.answer("STOP", chat=message.recipient, license=license_.name)


def _whatsapp_restricts_the_numbers(site: Mayhem) -> None:
    """Restrict in one of the ways, for some seconds. Nobody ends it: waiting messages are retried, one at a time."""
    site._end_restriction()
    site.phone.set_faults(**{site.draw.choice(campaign.RESTRICTIONS): {"amount": 0}})
    site._restrictions += 1
    site._unrestricted_at = time.monotonic() + site.draw.uniform(*campaign.RESTRICTION_SECONDS)


def _customers_write(site: Mayhem) -> None:
    """Some recipients of sent messages, at a license whose webhooks come."""
    license_ = site.draw.choice(site.licenses[::2])
    arrived = OutboundMessage.objects.filter(license=license_, status__in=ARRIVED, recipient_type="number")
    for number in {*arrived.order_by("-pk").values_list("recipient", flat=True)[:_KNOWN]}:
        site.phone.answer("Terima kasih", chat=number, license=license_.name)


def _hold_a_lanes_row(site: Mayhem) -> None:
    """Hold a lane's lock like a worker that is frozen in its transaction. Sales and other licenses must continue."""
    license_, seconds = site.draw.choice(site.licenses), site.draw.uniform(*campaign.HELD_SECONDS)
    thread = threading.Thread(target=_hold, args=(license_.pk, seconds), daemon=True)
    site._holding.append(thread)
    thread.start()


def _hold(license_id: int, seconds: float) -> None:
    # The fault that drops connections drops this one as well.
    with contextlib.suppress(DatabaseError, InterfaceError), contextlib.closing(connection), transaction.atomic():
        Lane.objects.filter(pk=license_id).update(probes=models.F("probes"))
        time.sleep(seconds)


def drop_connections(site: Mayhem | None = None) -> None:
    """End all other sessions of the database, as its restart would."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        elif connection.vendor == "mysql":
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db = database()"
            )
            for [session] in cursor.fetchall():
                with contextlib.suppress(DatabaseError):
                    cursor.execute(f"KILL {int(session)}")


DEEDS = (
    _kill_a_child,
    _kill_a_child,
    _kill_a_child,
    _freeze_a_child,
    _freeze_a_child,
    _kill_a_worker,
    _stop_a_worker,
    _kill_the_beat,
    _kill_the_web_server,
    _flush_the_broker,
    _deploy_the_gateway,
    _hold_a_lanes_row,
    _a_customer_stops,
    _a_customer_stops,
    _a_customer_stops,
    _whatsapp_restricts_the_numbers,
    _whatsapp_restricts_the_numbers,
    _customers_write,
    _customers_write,
    _customers_write,
    drop_connections,
)


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])) or "none"
