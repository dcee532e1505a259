"""Broken sites: what the doctor, dashboard, banner, alerts and health endpoint say about them.

`integration.test_health` checks the same table against rows in the database. Here the rows come from real processes: a
phone that is logged out or gone, a sender, beat or broker that is killed, a receipt class that raises in the till's own
process. The doctor is a process as well, and a process that is still alive sends the mail.
"""

from __future__ import annotations

import json
import re
from importlib import import_module

import pytest
import requests
from django.db import connection
from django.test import Client

from django_kpwa import health
from django_kpwa.models import (
    UNSETTLED,
    Alert,
    EventStatus,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    Status,
    WebhookEvent,
)
from django_kpwa.outbox import send_message
from django_kpwa.words import Problem
from tests.integration.misbehaving import MisbehavingServer, answer
from tests.integration.test_health import SECRET, SITUATIONS, another, banner, dashboard, sell_untold
from tests.integration.times import pass_time
from tests.own_redis import OwnRedis
from tests.processes import run_manage, wait_until
from tests.sandbox import SandboxProcess

from .failing import CARELESS
from .harness import KEY, Shop

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="the screens read the same on all three databases"),
]

SHORTER = {
    "django_kpwa.models.statistics.SILENT_SECONDS": 60.0,
    "django_kpwa.senders.SILENT_SECONDS": 60.0,
    "django_kpwa.health.SILENT_SECONDS": 60.0,
    "django_kpwa.senders.MISSED_BEAT_SECONDS": 4.0,
    "django_kpwa.senders.STARTING_SECONDS": 4.0,
    "django_kpwa.store.heartbeats.NOTE_EVERY_SECONDS": 1.0,
    "django_kpwa.tasks.NOTE_EVERY_SECONDS": 1.0,
    "django_kpwa.alerts.compare.LOOK_EVERY_SECONDS": 0.5,
    "django_kpwa.store.alerts.LOOK_EVERY_SECONDS": 0.5,
    "django_kpwa.store.alerts.FLAPPING_SECONDS": 3.0,
    "django_kpwa.health.LATE_SECONDS": 600.0,
    "django_kpwa.health.LATE_WEBHOOK_SECONDS": 600.0,
    "django_kpwa.receipts.looks.EVERY_SECONDS": 0.0,
}
"""Set in all processes, and in this one, which shows the screens."""


class Site(Shop):
    """A shop that is not expected to settle."""

    def __init__(self, folder, phone, **kpwa):
        told = {"ALERT_EMAILS": ["owner@shop.example"], "HEALTH_SECRET": SECRET}
        super().__init__(folder, phone, **{**told, **SHORTER, **kpwa})
        self.imports, self.urls, self.other_schedule = "", "tests.urls", False

    def run(self):
        """Start a sender that needs no broker, and wait for a sweep."""
        running = self.start_manage("kpwa", "run")
        wait_until(lambda: self.is_alive("sweep"), 60, "a sweep")
        return running

    def manage(self, *arguments, careless=None, exit_codes=(0,)):
        """Run a management command of the site to its end; `careless`: faults of the site's own code in its process."""
        environment = self._environment({}) | ({CARELESS: json.dumps(careless)} if careless else {})
        done = run_manage(*arguments, environment=environment)
        assert done.returncode in exit_codes, done.stdout + done.stderr
        return done

    def sell_at_another_till(self, count=1, number="081234567890", careless=None):
        """Make sales in a separate process."""
        sale = f"Sale.objects.create(status='paid', customer_phone={number!r})"
        code = f"from tests.shop.models import Sale; [{sale} for _ in range({count})]"
        self.manage("shell", "-c", code, careless=careless)

    def sell_and_wait(self):
        self.sell()
        wait_until(lambda: not OutboundMessage.objects.filter(status__in=UNSETTLED).exists(), 30, "the first receipt")

    def is_alive(self, name):
        return health.look().senders.is_alive(name)

    def subjects(self):
        mails = "\n".join(path.read_text() for path in self.mails.iterdir())
        return re.findall(r"^Subject: (.*)$", mails, re.MULTILINE)

    def is_told(self):
        """True once somebody was alerted. If no other process is left, a request to the site sends the alert."""
        if self.web_url and not self.subjects():
            requests.get(f"{self.web_url}/kpwa/health/{SECRET}/", timeout=30)
        return bool(self.subjects())

    def _environment(self, failpoints):
        environment = super()._environment(failpoints)
        environment |= {"KPWA_TEST_IMPORTS": self.imports, "KPWA_TEST_URLS": self.urls}
        if not self.imports:
            environment["CELERY_BROKER_URL"] = ""  # names that Celery itself would read
        return environment | ({"KPWA_TEST_OTHER_SCHEDULE": "1"} if self.other_schedule else {})

    @property
    def mails(self):
        folder = self.folder / "mails"
        folder.mkdir(exist_ok=True)
        return folder


@pytest.fixture
def phone():
    """A separate phone for the test, which may stop."""
    with SandboxProcess("--linked", "--license", f"Toko:{KEY}", "--license", "Cabang:another-api-key-0001") as sandbox:
        yield sandbox


@pytest.fixture
def make_site(transactional_db, tmp_path, phone, kpwa, monkeypatch):
    """Creates the test's site, and applies its settings to this process, which shows the screens."""
    made = []

    def make(**changed):
        monkeypatch.setenv("KPWA_TEST_MAIL_FOLDER", str(tmp_path / "mails"))
        site = Site(tmp_path, phone, **changed)
        made.append(site)
        site.use_broker("")
        kpwa(**{name: value for name, value in site.kpwa.items() if "." not in name})
        for path in SHORTER:
            module, _, name = path.rpartition(".")
            monkeypatch.setattr(import_module(module), name, site.kpwa[path])
        return site

    yield make
    for site in made:
        site.close()


def hold(site, admin, code, can_send, headline, counter, alert, status):
    """Every screen shows what it must; the arguments are those of a row of `SITUATIONS`."""

    def is_found():
        found = health.look()
        return code in [None, *(f.code for f in found.findings)] and found.is_blocked is not can_send

    wait_until(is_found, 30, f"{code} in {health.look().findings}")
    if alert:
        wait_until(site.is_told, 30, "a mail")
    assert [row.code for row in Alert.objects.exclude(opened_at=None)] == ([alert] if alert else [])
    assert len(site.subjects()) == bool(alert), site.subjects()
    assert headline.lower() in dashboard(admin).lower()
    wait_until(
        lambda: counter in banner() if counter else banner() == "", 30, f"the banner to say {counter!r}: {banner()}"
    )
    asked = Client().get(f"/kpwa/health/{SECRET}/")
    assert (asked.status_code, asked.json()["status"]) == (200 if can_send else 503, status)
    is_bad = any(finding.tone == "bad" for finding in health.look().findings)
    done = site.manage("kpwa", "doctor", "--json", exit_codes=(0, 1))
    told = json.loads(done.stdout)
    assert told["receipts_can_go_out"] is can_send, told
    assert done.returncode == (0 if can_send and not is_bad else 1), told


# --- faults of phone, gateway, till and owner while a sender runs ---


def as_an_owner_sets_it(name):
    """The rows of the table are the fault itself."""
    return lambda site: SITUATIONS[name][0](site.license)


def kill_the_sender(site):
    site.sell_and_wait()
    site.start_web()
    site.processes[0].kill_all()


def add_a_second_license(site):
    site.sell_and_wait()
    another("Cabang")
    License.objects.update(is_default=False)


def log_out(site):
    site.sell_and_wait()
    site.phone.logout()
    site.sell()


def never_link(site):
    site.phone.logout()
    site.sell()


def refuse_the_key(site):
    site.sell_and_wait()
    site.phone.set_faults(revoked_key=1)
    site.sell()


def refuse_the_key_from_the_first(site):
    site.phone.set_faults(revoked_key=1)
    site.sell()


def link_another_phone(site):
    site.sell_and_wait()
    site.phone.stop()
    # Its second license has a different number.
    site.phone.start("--linked", "--license", "Lain:kunci-lain-0001", "--license", f"Toko:{KEY}")
    site.sell(2)


def stop_the_gateway(site):
    site.sell_and_wait()
    site.phone.stop()
    site.sell(5)


def ask_to_wait(site):
    site.sell_and_wait()
    site.phone.set_faults(rate_limited_429={"probability": 1, "amount": 60, "operation": "sends"})
    site.sell()
    wait_until(lambda: Lane.objects.filter(pause_reason=PauseReason.RATE_LIMITED).exists(), 30, "the pause")


def sell_faster_than_the_pace(site):
    License.objects.update(pace_min_seconds=60, pace_max_seconds=60)
    site.sell(3)


def is_said(word, *, after_a_logout=False):
    """The gateway answers `word` whenever it is asked for the status."""

    def begin(site):
        site.sell_and_wait()
        if after_a_logout:
            site.phone.logout()
            site.manage("kpwa", "status", exit_codes=(0, 1))
        server = MisbehavingServer()
        server.behave(answer({"message": "OK", "status": word, "code": None}))
        site._stack.callback(server.close)
        site.license.base_url = server.url
        site.license.set_api_key(KEY)
        site.license.save()
        site.manage("kpwa", "status", exit_codes=(0, 1))

    return begin


def restrict_the_number(site):
    site.sell_and_wait()
    site.phone.set_faults(restricted_400={"amount": 1})
    site.sell()
    wait_until(lambda: Lane.objects.filter(restriction_step__gt=0).exists(), 30, "the restriction")


def wait_for_the_pace_with_a_try(site):
    License.objects.update(pace_min_seconds=60, pace_max_seconds=60)
    site.sell_and_wait()
    as_an_owner_sets_it("a try is next")(site)


def lose_answers(count):
    """Not in a row, because that would be a failing gateway."""

    def lose(site):
        for lost in range(1, count + 1):
            site.sell_and_wait()
            site.phone.set_faults(reset_after={"count": 1, "operation": "sends"})
            site.sell()
            wait_until(lambda lost=lost: OutboundMessage.objects.undecided().count() == lost, 60, "the doubt")

    return lose


def lose_the_webhook(site):
    """Webhooks came once. Then the gateway forgot the address, and the shop sold on for hours."""
    site.post_webhook({"event": "nothing that is known"})
    wait_until(lambda: not WebhookEvent.objects.filter(status=EventStatus.PENDING).exists(), 30, "the event")
    pass_time(hours=3)
    site.sell(25)
    wait_until(lambda: OutboundMessage.objects.filter(status=Status.SENT).count() == 25, 60, "25 receipts")
    pass_time(hours=1)
    HourlyStatistic.objects.all().delete()
    site.manage("kpwa", "purge")  # aggregates them


def delete_the_license(site):
    site.phone.logout()
    site.sell()
    wait_until(lambda: Lane.objects.exclude(pause_reason="").exists(), 30, "a pause")
    another("Cabang")
    Lane.objects.filter(license=site.license).delete()
    License.objects.filter(pk=site.license.pk)._raw_delete("default")


BREAK = {
    "all is well": lambda site: site.sell_and_wait(),
    "no license": as_an_owner_sets_it("no license"),
    "the only license inactive": as_an_owner_sets_it("the only license inactive"),
    "inactive, and messages wait": lambda site: (never_link(site), License.objects.update(is_active=False)),
    "one of two inactive, and messages wait for it": lambda site: (
        site.sell_and_wait(),
        another("Cabang", is_active=False),
        send_message("081234567890", "struk", license="Cabang"),
    ),
    "two licenses and no default": add_a_second_license,
    "two licenses, no default, and messages wait": as_an_owner_sets_it("two licenses, no default, and messages wait"),
    "nobody sends": kill_the_sender,
    "logged out": log_out,
    "key refused": refuse_the_key,
    "key refused before the first send": refuse_the_key_from_the_first,
    "another phone": link_another_phone,
    "gateway failing": stop_the_gateway,
    "paused by a person": lambda site: site.manage("kpwa", "licenses", "pause", "Toko"),
    "asked to wait": ask_to_wait,
    "no key": as_an_owner_sets_it("no key"),
    "never linked": never_link,
    "number restricted": is_said("yellowCard"),
    "number banned": is_said("banned"),
    "passkey asked for, after a log-out": is_said("PassKeyRequire", after_a_logout=True),
    "late": sell_faster_than_the_pace,
    "a number that is none": lambda site: (site.sell_and_wait(), site.sell_at_another_till(number="0812")),
    "a sale that nothing was told of": lambda site: (site.sell_and_wait(), sell_untold(), site.manage("kpwa", "purge")),
    "a receipt class whose candidates cannot be asked": lambda site: (
        site.sell_and_wait(),
        site.manage("kpwa", "purge", careless={"get_candidates": "raise"}),
    ),
    "every receipt class raises": lambda site: site.sell_at_another_till(3, careless={"get_phone_number": "raise"}),
    "a message in doubt": lose_answers(1),
    "many in doubt": lose_answers(5),
    "new customers wait": restrict_the_number,
    "a try is next": wait_for_the_pace_with_a_try,
    "webhooks silent": lose_the_webhook,
    "webhooks late": lambda site: (site.sell_and_wait(), site.post_webhook({"hang": "longer than it may wait"})),
    "a deleted license's message": delete_the_license,
}
SOONER = {
    "nobody sends": {f"django_kpwa.{name}.SILENT_SECONDS": 8.0 for name in ("models.statistics", "senders", "health")},
    "late": {"django_kpwa.health.LATE_SECONDS": 5.0},
    "webhooks late": {"django_kpwa.health.LATE_WEBHOOK_SECONDS": 3.0},
}
"""Set only if the situation is about time. Elsewhere a busy machine must not look like a second fault."""


def test_every_situation_of_the_table_is_made():
    assert list(BREAK) == list(SITUATIONS)


@pytest.mark.parametrize("name", BREAK)
def test_a_site_broken_in_earnest_says_so_everywhere(make_site, admin_client, name):
    site = make_site(WEBHOOK_PARSER="tests.faults.failing.careless.CarelessParser", **SOONER.get(name, {}))
    site.run()
    BREAK[name](site)
    code, can_send, headline, *others = SITUATIONS[name][1:]
    # The table's site has sent nothing yet; in these situations this one has.
    headline = headline.replace("receipts can go out", "receipts are going out")
    hold(site, admin_client, code, can_send, headline, *others)


# --- faults of a site's worker, beat and broker, and of the database ---

NOBODY_SENDS = (False, "sending service is not running", "sending service is not running", "nobody_sends", "blocked")
BEAT_IS_MISSED = (True, "Receipts that have to wait are not sent", "a part of the sending service", "nobody_sends")
AT_A_TENTH = {
    path: seconds
    for seconds, *paths in (
        (9.0, "models.statistics.SILENT_SECONDS", "senders.SILENT_SECONDS", "health.SILENT_SECONDS"),
        (4.5, "senders.MISSED_BEAT_SECONDS"),
        (8.0, "senders.STARTING_SECONDS", "store.alerts.FLAPPING_SECONDS"),
        (3.0, "store.heartbeats.NOTE_EVERY_SECONDS", "tasks.NOTE_EVERY_SECONDS"),
    )
    for path in (f"django_kpwa.{name}" for name in paths)
}
"""Worker and beat record heartbeats less often than `kpwa run`, and take longer to start."""
GOES_OUT = (None, True, "receipts are going out", "", "", "ok")


@pytest.fixture
def site(make_site):
    """A site with Celery, whose web processes have imported its app. Nothing is started yet."""
    with OwnRedis() as redis:
        site = make_site(**AT_A_TENTH)
        site.redis, site.imports = redis, "tests.celery_app"
        site.use_broker(redis.url)
        yield site


def start_celery(site):
    """A worker and a beat that have sent a receipt."""
    beat, worker = site.start_beat(), site.start_worker()
    site.sell_and_wait()
    wait_until(lambda: site.is_alive("sweep") and site.is_alive("beat"), 60, "a sweep of beat's")
    return worker, beat


def test_a_correct_site(site, admin_client):
    start_celery(site)
    hold(site, admin_client, *GOES_OUT)


def test_the_first_seconds_of_a_correct_start(site, admin_client, monkeypatch):
    monkeypatch.setattr("django_kpwa.senders.STARTING_SECONDS", 60.0)
    site.kpwa["django_kpwa.senders.STARTING_SECONDS"] = 60.0
    site.start_worker()
    site.sell_and_wait()
    hold(site, admin_client, Problem.STARTING, True, "receipts are going out", "", "", "attention")


def test_a_worker_that_was_killed(site, admin_client):
    worker, _ = start_celery(site)
    worker.kill_all()
    hold(site, admin_client, Problem.NO_WORKER, *NOBODY_SENDS)


def test_a_worker_that_idles_while_beat_was_killed(site, admin_client):
    _, beat = start_celery(site)
    beat.kill_all()
    hold(site, admin_client, Problem.NO_BEAT, *BEAT_IS_MISSED, "attention")
    site.sell_and_wait()


def test_a_beat_that_does_not_know_our_tasks(site, admin_client):
    _, beat = start_celery(site)
    beat.kill_all()
    site.other_schedule = True
    site.start_beat()
    hold(site, admin_client, Problem.OTHER_SCHEDULE, *BEAT_IS_MISSED, "attention")


def test_a_worker_of_another_queue(site, admin_client):
    worker, _ = start_celery(site)
    worker.kill_all()
    site.start_worker(queues="something-else")
    hold(site, admin_client, Problem.OTHER_QUEUE, *NOBODY_SENDS)


def test_worker_and_beat_that_were_killed(site, admin_client):
    worker, beat = start_celery(site)
    site.start_web()
    worker.kill_all()
    beat.kill_all()
    hold(site, admin_client, Problem.NO_WORKER_AND_NO_BEAT, *NOBODY_SENDS)


def test_a_broker_that_was_killed(site, admin_client):
    start_celery(site)
    site.redis.kill()
    wait_until(lambda: not site.is_alive("worker"), 30, "the worker's silence")
    site.sell()
    hold(site, admin_client, Problem.BROKER_DOWN, *NOBODY_SENDS)


def test_a_sender_without_celery_on_a_site_with_a_broker(site, admin_client):
    site.run()
    site.sell_and_wait()
    hold(site, admin_client, *GOES_OUT)


def test_cron_on_a_site_with_a_broker(site, admin_client, monkeypatch):
    # Cron comes once a minute; here it comes only once.
    for name in ("models.statistics", "senders", "health"):
        path = f"django_kpwa.{name}.SILENT_SECONDS"
        monkeypatch.setattr(path, 90.0)
        site.kpwa[path] = 90.0
    site.sell()
    site.manage("kpwa", "dispatch", "--seconds", "5")
    assert not OutboundMessage.objects.filter(status=Status.QUEUED).exists()
    hold(site, admin_client, *GOES_OUT)


def test_a_web_process_that_has_not_imported_the_celery_app(site, admin_client):
    start_celery(site)
    site.imports = ""
    site.sell_at_another_till()
    wait_until(lambda: OutboundMessage.objects.filter(status=Status.SENT).count() == 2, 30, "the sweep that sends them")
    assert "Import the site's Celery app" in site.manage("kpwa", "doctor").stdout
    hold(site, admin_client, *GOES_OUT)


def test_addresses_that_are_not_included(site, admin_client, settings):
    start_celery(site)
    settings.ROOT_URLCONF = site.urls = "tests.integration.other_admin_urls"
    done = site.manage("kpwa", "doctor")
    assert "urls.py does not include django_kpwa.urls" in done.stdout
    assert "receipts are going out" in dashboard(admin_client).lower()
    assert banner() == ""
    assert site.subjects() == []


def test_a_database_that_takes_no_changes(site, admin_client):
    start_celery(site)
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
    try:
        connection.close()
        # An alert is a row in that database. The log, the health address and the dead man's switch report it instead.
        said = "the site's database takes no changes"
        hold(site, admin_client, Problem.READ_ONLY, False, said, said, "", "blocked")
    finally:
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        connection.close()
