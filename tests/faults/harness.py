"""A shop whose parts can be broken. It sells in this process; its senders are separate processes.

The docstring of `tests.faults` shows what a test looks like.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
import requests
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Count, Max
from django.test import Client, override_settings
from django.urls import reverse

from django_kpwa import license_actions, outbox, wake
from django_kpwa.exceptions import KpwaError
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.license_actions import token_digest
from django_kpwa.models import (
    DatabaseNow,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    SendAttempt,
    Status,
    WebhookToken,
)
from django_kpwa.outbox import Message, send_messages
from tests import servers
from tests.celery_app import app, configure_broker
from tests.integration.misbehaving import free_port
from tests.processes import (
    RunningProcess,
    run_manage,
    site_environment,
    start_celery_beat,
    start_celery_worker,
    start_manage,
    wait_until,
)
from tests.sandbox import SandboxProcess
from tests.sessions import end_session
from tests.shop.models import Sale

from . import invariants
from .failing import CARELESS, FAILPOINTS, FOLDER, HEARS

KEY = "kunci-kenari-7f3a9c2e5b81d604"
BROKER = os.environ.get("KPWA_FAULTS_BROKER", "redis")
# Short limits, so that a lost worker's lease runs out within a test.
IMPATIENT = {
    "CALL_DEADLINE_SECONDS": 2,
    "RETRY_SECONDS": 1,
    "PROBE_SECONDS": 0.2,
    "django_kpwa.gateway.http.HttpGateway.CONNECT_TIMEOUT_SECONDS": 1.0,
    "django_kpwa.gateway.http.HttpGateway.READ_TIMEOUT_SECONDS": 1.5,
    "django_kpwa.pace.MAX_RETRY_SECONDS": 2.0,
    "django_kpwa.dispatch.first_contact.LOOK_AGAIN_SECONDS": 2.0,
}
LEASE_SECONDS = 9.0
"""The value of `conf.lease_seconds()` for these settings."""
BEAT_SECONDS = 1.0
SLACK_SECONDS = 30.0
"""Extra time for a busy machine. No promise is measured more tightly than this."""
REQUEST_BOUND_SECONDS = 3.0
"""E: a silent broker costs a sale 0.3 s by design; without limits it would be 7 s, or forever."""


class Shop:
    """One site under test, with one license. `folder`: where its processes keep their counters."""

    def __init__(self, folder: Path, phone: SandboxProcess, *, broker: str = BROKER, **kpwa: object) -> None:
        self.folder, self.phone = folder, phone
        self.kpwa = {
            "GATEWAY": "django_kpwa.gateway.http.HttpGateway",
            "BASE_URLS": [phone.base_url],
            **IMPATIENT,
            **kpwa,
        }
        self.broker_url = servers.broker_url(broker)
        self.brokers_before = ""
        """Brokers that precede it in the site's list, each followed by `;`. None of them answers."""
        self.hears = False
        self.debug = False
        self.careless: dict[str, str] = {}
        """Faults of the site's own code in processes that are started from here on; see `failing.careless`."""
        self.processes: list[RunningProcess] = []
        self.sold: dict[int, float] = {}
        """Committed sales, and how many seconds each took."""
        self.withdrawn: list[int] = []
        self.resends: Counter[int] = Counter()
        self.marked: set[int] = set()
        self.answered: defaultdict[bytes, list[int]] = defaultdict(list)
        """The statuses with which each webhook body was answered."""
        self.numbers: set[str] = set()
        self.secrets: set[str] = {KEY}
        self.web_url = ""
        self.last_path = ""
        self._stack = contextlib.ExitStack()
        self.license = License(name="Toko")
        self.license.set_api_key(KEY)
        self.license.save()
        self.use_broker(self.broker_url)
        self.empty_broker()

    # --- its processes ---

    def use_broker(self, url: str) -> None:
        """From here on this process publishes to `url`, and processes that are started use it."""
        self.broker_url = url
        configure_broker(app, self._broker_list(), str(self.folder))
        app.set_current()
        app.set_default()
        wake.publisher.broker.close()
        wake.publisher.reset()

    def _broker_list(self) -> str:
        return self.brokers_before + self.broker_url

    def empty_broker(self) -> None:
        if self.broker_url.startswith("redis"):
            with redis.Redis.from_url(self.broker_url) as client:
                client.flushdb()
            return
        with contextlib.suppress(Exception):
            app.control.purge()

    def start_worker(
        self,
        pool: str = "prefork",
        *,
        concurrency: int = 2,
        queues: str = "",
        clock_seconds: float = 0,
        **failpoints: object,
    ) -> RunningProcess:
        """`start_worker(after_claim={"do": "kill", "at": 3})`; `tests.faults.failing` lists the possible actions.

        `clock_seconds`: how far its clock is ahead, or behind if negative.
        """
        environment = self._environment(failpoints)
        if clock_seconds:
            path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "clock"), os.environ.get("PYTHONPATH")]))
            environment |= {"KPWA_TEST_CLOCK_SECONDS": str(clock_seconds), "PYTHONPATH": path}
        return self._started(
            start_celery_worker(
                self.brokers_before + self.broker_url,
                pool=pool,
                concurrency=concurrency,
                queues=queues,
                environment=environment,
            )
        )

    def start_beat(self) -> RunningProcess:
        """Returns at once: only tests of what a beat recovers wait for its first beat."""
        schedule = self.folder / f"beat-{len(self.processes)}"
        environment = self._environment({})
        return self._started(
            start_celery_beat(
                self.brokers_before + self.broker_url, schedule_file=schedule, environment=environment, waits=False
            )
        )

    def start_manage(self, *arguments: str, **failpoints: object) -> RunningProcess:
        return self._started(start_manage(*arguments, environment=self._environment(failpoints)))

    def migrate(self, to: str) -> None:
        """Migrate the tables to `to` of `tests.faults.next_release`, as a deployment would."""
        environment = self._environment({}) | {"KPWA_TEST_NEXT_RELEASE": "1"}
        done = run_manage("migrate", "django_kpwa", to, "--no-input", seconds=180, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def start_web(self) -> str:
        """The site's own server, to which webhooks are posted from here on. Returns its address."""
        port = free_port()
        server = self.start_manage("runserver", "--noreload", f"127.0.0.1:{port}")
        server.wait_for_output("Quit the server")
        self.web_url = f"http://127.0.0.1:{port}"
        return self.web_url

    def register_webhook(self, license_: License) -> None:
        """Register the web server's webhook with the phone."""
        # A name with dots is a constant of the processes that are started.
        kpwa = {name: value for name, value in self.kpwa.items() if "." not in name} | {"PUBLIC_URL": self.web_url}
        with override_settings(KPWA=kpwa):
            self.secrets.add(license_actions.set_webhook(license_).rstrip("/").rpartition("/")[2])

    def _started(self, process: contextlib.AbstractContextManager[RunningProcess]) -> RunningProcess:
        running = self._stack.enter_context(process)
        self.processes.append(running)
        return running

    def _environment(self, failpoints: dict[str, object]) -> dict[str, str]:
        environment = site_environment(broker_url=self._broker_list(), broker_folder=self.folder, kpwa=self.kpwa)
        environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            FOLDER: str(self.folder),
            FAILPOINTS: json.dumps(failpoints),
            HEARS: "1" if self.hears else "",
            CARELESS: json.dumps(self.careless) if self.careless else "",
            "KPWA_TEST_DEBUG": "1" if self.debug else "",
        }
        return environment

    def close(self) -> None:
        self._stack.close()
        wake.publisher.broker.close()
        wake.publisher.reset()
        app.conf.broker_url = None
        app.close()

    # --- its actions ---

    def sell(self, count: int = 1) -> list[int]:
        """Make `count` paid sales, each in its own transaction and for a different customer, as a till saves them."""
        keys = []
        for _ in range(count):
            began = time.monotonic()
            with transaction.atomic():
                sale = self.save_sale()
            self.sold[sale.pk] = time.monotonic() - began
            keys.append(sale.pk)
        return keys

    def sell_losing_the_connection(self, at: int) -> bool:
        """One sale whose database session is ended before its statement number `at`, from 0. Returns True if it was.

        If that causes an error, the sale is withdrawn; otherwise the till believes that it is stored.
        """
        drop = _Drop(at)
        sale_id = None
        try:
            with connection.execute_wrapper(drop), transaction.atomic():
                sale_id = self.save_sale().pk
        except (DatabaseError, InterfaceError, KpwaError):
            connection.close()
            if sale_id is not None:
                self.withdrawn.append(sale_id)
        else:
            self.sold[sale_id] = 0.0  # the duration is measured by other sales
        return drop.was_done

    def save_sale(self) -> Sale:
        """One paid sale with its line; the caller decides about the transaction."""
        sale = Sale.objects.create(status=Sale.Status.PAID)
        # The number is derived from the key, so only the second save queues the receipt.
        sale.customer_phone = f"08120{sale.pk:07}"
        self.numbers.add(f"628120{sale.pk:07}")
        sale.save()
        sale.lines.create(name="Kopi susu", price=18_000)
        return sale

    def send(self, count: int, *, first: int = 0) -> list[OutboundMessage]:
        """Queue this many messages in a few statements, for tests that are not about the sale itself."""
        self.numbers |= {f"62813{n:07}" for n in range(first, first + count)}
        return send_messages(
            Message(f"0813{n:07}", f"Pesan {n}", license=self.license, idempotency_key=f"pesan-{n}")
            for n in range(first, first + count)
        )

    def resend(self, message: OutboundMessage) -> None:
        assert outbox.resend(message)
        self.resends[message.pk] += 1

    def webhook_path(self) -> str:
        """The path of a new token, as after a registration."""
        token = secrets.token_urlsafe(32)
        self.secrets.add(token)
        WebhookToken.objects.create(
            license=self.license, digest=token_digest(token), created_at=DatabaseNow(), registered_at=DatabaseNow()
        )
        return reverse("django_kpwa:webhook", args=[token])

    def post_webhook(self, content: object, content_type: str = "application/json", path: str = "") -> int:
        """Post to the site, or to the view in this process, and record the answer. `content`: bytes, or a JSON value.

        `path`: the path of a certain token; if omitted, always the same one.
        """
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        if not path:
            path = self.last_path = self.last_path or self.webhook_path()
        if self.web_url:
            with requests.Session() as session:
                session.trust_env = False
                headers = {"Content-Type": content_type}
                status = session.post(self.web_url + path, body, headers=headers, timeout=60).status_code
        else:
            status = Client().post(path, data=body, content_type=content_type).status_code
        self.answered[body].append(status)
        return status

    # --- the outcome ---

    def statuses(self) -> dict[str, int]:
        return dict(Counter(OutboundMessage.objects.values_list("status", flat=True)))

    def outcomes(self) -> dict[str, int]:
        return dict(Counter(SendAttempt.objects.values_list("outcome", flat=True)))

    def lane(self) -> Lane:
        return Lane.objects.get(license=self.license)

    def arrived(self) -> int:
        return len(self.phone.ledger())

    def reached(self, failpoint: str, seconds: float = 60) -> int:
        """Wait until a failpoint is first reached; returns the id of the process that reached it."""
        files = wait_until(
            lambda: sorted(self.folder.glob(f"reached-{failpoint}.*")), seconds, f"the failpoint {failpoint}"
        )
        return int(files[0].read_text().split()[1])

    def heard(self) -> list[dict]:
        """The signals that the site's processes sent, in order; `hears` must be set before they start."""
        file = self.folder / "heard"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def thaw(self, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)

    def settle(self, seconds: float = 600) -> None:
        """Wait until nothing is in progress. B: nothing may stand still for longer than a lease and two beats."""
        allowed = LEASE_SECONDS + 2 * BEAT_SECONDS + SLACK_SECONDS
        until = time.monotonic() + seconds
        seen, moved_at = None, time.monotonic()
        while self.is_busy():
            now = time.monotonic()
            progress = self._progress()
            if progress != seen or not self._has_due():
                seen, moved_at = progress, now
            assert now - moved_at < allowed, "\n".join(
                [f"Nothing moved for {allowed:.0f} s.", *map(str, invariants.check_settled()), self._lane_words()]
            )
            assert now < until, f"Not settled within {seconds} s: {self.statuses()}"
            time.sleep(0.2)

    def is_busy(self) -> bool:
        return bool(invariants.check_settled())

    def _has_due(self) -> bool:
        return OutboundMessage.objects.due().exists() or OutboundMessage.objects.filter(status=Status.SENDING).exists()

    def _progress(self) -> tuple[object, ...]:
        attempts = SendAttempt.objects.aggregate(Count("pk"), Max("finished_at"))
        return (self.statuses(), attempts["pk__count"], attempts["finished_at__max"])

    def _lane_words(self) -> str:
        lane = Lane.objects.filter(license=self.license).values().first()
        return f"lane: {lane}"

    def violations(self) -> list[invariants.Violation]:
        """All violations of the promises, found by comparison with the phone's ledger."""
        return [
            *invariants.check_deliveries(self.phone.ledger(), resends=self.resends, marked=self.marked),
            *invariants.check_settled(),
            # SQLite reuses the key of a sale that was rolled back.
            *invariants.check_sales(self.sold, set(self.withdrawn) - set(self.sold)),
            *invariants.check_told(self.sold, set(Sale.objects.filter(status="paid").values_list("pk", flat=True))),
            *invariants.check_requests(self.sold.values(), REQUEST_BOUND_SECONDS),
            *invariants.check_webhooks(self.license.pk, self.answered, self.heard()),
            *invariants.check_secrets(self.secrets, self.numbers, self.outputs()),
        ]

    def check(self) -> None:
        """Fails if there are violations, and lists them."""
        found = self.violations()
        assert not found, "\n".join([f"{len(found)} violations:", *map(str, found[:50])])

    def outputs(self) -> dict[str, str]:
        """The output of its processes, and the contents of its broker."""
        written = {f"the output of {' '.join(running.process.args[1:7])}": running.output for running in self.processes}
        return written | {"the broker": "\n".join(self.broker_texts())}

    def broker_texts(self) -> Iterator[str]:
        """The messages that wait in the broker, their bodies decoded. RabbitMQ's are not read."""
        if self.broker_url.startswith("redis"):
            with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(self.broker_url) as client:
                for key in client.scan_iter():
                    if client.type(key) == b"list":
                        yield from map(_decoded, client.lrange(key, 0, -1))
                    elif client.type(key) == b"hash":
                        yield from map(_decoded, client.hvals(key))
        elif self.broker_url.startswith("filesystem"):
            for file in self.folder.rglob("*.msg"):
                yield _decoded(file.read_bytes())


class _Drop:
    """Ends this thread's database session before its statement number `at`."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.was_done = False

    def __call__(self, execute: Callable[..., object], *arguments: object) -> object:
        if self._left == 0:
            self.was_done = True
            end_session()
        self._left -= 1
        return execute(*arguments)


def _decoded(content: bytes) -> str:
    """A message as it is, and its body as Celery wrote it."""
    text = content.decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        envelope = json.loads(text)
        envelope = envelope[0] if isinstance(envelope, list) else envelope
        return f"{text}\n{base64.b64decode(envelope['body']).decode(errors='replace')}"
    return text


def unknown() -> list[OutboundMessage]:
    return list(OutboundMessage.objects.filter(status=Status.UNKNOWN).order_by("pk"))


def in_doubt_because(cause: str) -> int:
    return SendAttempt.objects.filter(outcome=OutcomeKind.IN_DOUBT, cause=cause).count()


def wait_for(condition: Callable[[], object], what: str, seconds: float = 90) -> object:
    return wait_until(condition, seconds, what)


def is_paused(reason: PauseReason) -> bool:
    return Lane.objects.filter(pause_reason=reason).exists()
