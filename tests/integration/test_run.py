"""`kpwa run` and `kpwa dispatch` as processes: they send, pace, stop, and leave each other's lanes alone."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import psutil
import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from django_kpwa.gateway import locmem
from django_kpwa.license_actions import token_digest
from django_kpwa.models import (
    DatabaseNow,
    EventStatus,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    Recipient,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
)
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.webhooks.arrivals import store_event
from tests.cli import kpwa, kpwa_json
from tests.processes import run_manage, start_manage, wait_until
from tests.sandbox import SandboxProcess
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("Pusat", "Cabang", "Gerobak")


@pytest.fixture(scope="module")
def running_phone():
    licenses = [part for name in NAMES for part in ("--license", f"{name}:key-of-{name}-0123456789")]
    with SandboxProcess("--linked", *licenses) as sandbox:
        yield sandbox


@pytest.fixture
def phone(running_phone):
    running_phone.reset()
    return running_phone


@pytest.fixture
def site(phone):
    """The settings of the site's processes that differ from tests/settings.py."""
    return {"kpwa": {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [phone.base_url]}}


@pytest.fixture
def shops(db):
    """Three licenses that use the phone."""
    found = []
    for name in NAMES:
        license_ = License(name=name)
        license_.set_api_key(f"key-of-{name}-0123456789")
        license_.save()
        found.append(license_)
    return found


def queue(shops, each: int) -> None:
    send_messages(
        Message(f"0812 3456 7{number:03}", f"{shop.name} {number}", license=shop)
        for shop in shops
        for number in range(each)
    )


def statuses() -> Counter[str]:
    return Counter(OutboundMessage.objects.values_list("status", flat=True))


class TestRun:
    def test_it_sends_what_waits_and_what_comes_later_once_each_in_little_memory(self, shops, phone, site):
        queue(shops, 5)
        with start_manage("kpwa", "run", **site) as process:
            phone.wait_for_deliveries(15)
            send_message("0812 3456 7999", "Belakangan", license=shops[0])
            ledger = phone.wait_for_deliveries(16)
            wait_until(lambda: statuses() == {"sent": 16})
            megabytes = psutil.Process(process.pid).memory_info().rss / 1_000_000
            assert process.stop() == 0
            assert "Sends attempted: 16." in process.output
        assert megabytes < 100
        assert max(Counter(delivery["text"] for delivery in ledger).values()) == 1

    def test_the_pace_of_a_license_is_kept_while_others_go_on(self, shops, phone, site):
        paced, *others = shops
        License.objects.filter(pk=paced.pk).update(pace_min_seconds=1.0, pace_max_seconds=1.2)
        queue(shops, 3)
        with start_manage("kpwa", "run", "--threads", "1", **site):
            wait_until(lambda: statuses() == {"sent": 9})
        sent = {
            shop.pk: sorted(OutboundMessage.objects.filter(license=shop).values_list("sent_at", flat=True))
            for shop in shops
        }
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(sent[paced.pk])]
        assert min(gaps) >= 0.95
        assert max(gaps) < 3
        # There is only one thread, and it did not sleep while the other lanes had messages.
        assert max(sent[other.pk][-1] for other in others) < sent[paced.pk][-1]

    def test_on_sigterm_it_ends_its_call_records_it_and_gives_every_lane_back(self, shops, phone, site):
        phone.set_faults(latency={"amount": 1500})
        try:
            Lane.objects.bulk_create(Lane(license=shop, session_status="connected") for shop in shops)
            queue(shops, 2)
            # Make these recipients known: before a first message, the gateway is asked about the number.
            numbers = OutboundMessage.objects.values_list("license_id", "recipient")
            Recipient.objects.bulk_create(
                Recipient(license_id=license_id, number=number, first_sent_at=timezone.now())
                for license_id, number in numbers
            )
            with start_manage("kpwa", "run", **site) as process:
                wait_until(lambda: statuses()["sending"] == 3)
                began = time.monotonic()
                assert process.stop(signal.SIGTERM) == 0
                assert time.monotonic() - began < 10
        finally:
            phone.clear_faults()
        assert statuses() == {"sent": 3, "queued": 3}
        assert not Lane.objects.exclude(lease_token=None).exists()
        assert len(phone.ledger()) == 3

    def test_on_ctrl_c_a_lane_that_waits_for_its_pace_is_given_back(self, shops, phone, site):
        License.objects.update(pace_min_seconds=15, pace_max_seconds=15)
        queue(shops[:1], 2)
        with start_manage("kpwa", "run", **site) as process:
            wait_until(lambda: statuses()["sent"] == 1)
            wait_until(lambda: Lane.objects.exclude(lease_token=None).exists())
            assert process.stop(signal.SIGINT, seconds=5) == 0
            assert "Traceback" not in process.output
        assert not Lane.objects.exclude(lease_token=None).exists()

    def test_two_of_them_send_nothing_twice(self, shops, phone, site):
        queue(shops, 10)
        with start_manage("kpwa", "run", **site), start_manage("kpwa", "run", **site):
            wait_until(lambda: statuses() == {"sent": 30})
        texts = [delivery["text"] for delivery in phone.ledger()]
        assert len(texts) == len(set(texts)) == 30

    def test_killed_in_a_call_it_leaves_one_message_in_doubt_and_another_run_goes_on(self, shops, phone, site):
        # The lease ends soon, instead of after the minute that calls are given.
        site["kpwa"] |= {"CALL_DEADLINE_SECONDS": 3}
        phone.set_faults(stall_before={"count": 1, "operation": "sends"})
        queue(shops[:1], 3)
        with start_manage("kpwa", "run", **site) as process:
            # Wait for the call, not only for the claim.
            # A statement that is running at the kill would renew the lease after this test.
            wait_until(lambda: not phone.faults()["stall_before"]["probability"], what="a call that stalls")
            assert statuses()["sending"] == 1
            process.kill_all()
        phone.clear_faults()
        Lane.objects.update(lease_expires_at=DatabaseNow())
        with start_manage("kpwa", "run", **site):
            wait_until(lambda: statuses() == {"unknown": 1, "sent": 2})
        assert OutboundMessage.objects.get(status=Status.UNKNOWN).reason == "worker_lost"

    def test_it_processes_webhooks_rolls_statistics_up_and_purges(self, shops, phone, site):
        queue(shops[:1], 1)
        with start_manage("kpwa", "run", **site):
            wait_until(lambda: statuses() == {"sent": 1})
            store_event(shops[0].pk, b'{"whatever": [1]}', "application/json")
            wait_until(lambda: WebhookEvent.objects.exclude(status=EventStatus.PENDING).exists())
        WebhookToken.objects.create(
            license=shops[0], digest=token_digest("x"), created_at=DatabaseNow(), expires_at=in_seconds(-3 * 86400)
        )
        with start_manage("kpwa", "run", **site):
            wait_until(lambda: HourlyStatistic.objects.filter(license=shops[0], sent=1).exists())
            wait_until(lambda: not WebhookToken.objects.exists())

    def test_it_survives_a_database_that_drops_its_connections(self, shops, phone, site, drop_connections):
        with start_manage("kpwa", "run", **site) as process:
            queue(shops, 1)
            wait_until(lambda: statuses() == {"sent": 3})
            drop_connections()
            queue(shops, 2)
            wait_until(lambda: statuses()["sent"] == 9)
            assert process.stop() == 0


@pytest.fixture
def drop_connections():
    """Make the server end every other session of this database, as a restart would. SQLite has no sessions."""

    def drop():
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            elif connection.vendor == "mysql":
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
                )
                for (session,) in cursor.fetchall():
                    cursor.execute(f"KILL {session}")

    return drop


class TestDispatch:
    @pytest.fixture
    def here(self, site, settings):
        """Run the rounds in this process: starting a process takes longer than most rounds."""
        settings.KPWA = {**settings.KPWA, **site["kpwa"]}

    def test_one_round_sends_everything_that_is_due_and_ends(self, shops, phone, site):
        queue(shops, 4)
        send_message("0812 3456 7999", "Besok", license=shops[0], send_after=timezone.now() + timedelta(days=1))
        store_event(shops[0].pk, b'{"whatever": [1]}', "application/json")
        finished = run_manage("kpwa", "dispatch", "--json", **site)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == {
            "attempts": 12,
            "webhook_events": 1,
            "waiting": 1,
            "why_waiting": [
                {"license": "Pusat", "count": 1, "why": "it is scheduled for later; due in 24 h", "is_trouble": False}
            ],
        }
        assert len(phone.ledger()) == 12

    def test_it_waits_for_the_pace(self, shops, phone, here):
        License.objects.update(pace_min_seconds=0.4, pace_max_seconds=0.5)
        queue(shops, 3)
        assert kpwa("dispatch") == (0, "Sends attempted: 9. Webhook events processed: 0. Messages waiting: 0.\n")
        assert statuses() == {"sent": 9}

    def test_it_waits_for_the_pace_that_the_round_before_began(self, shops, phone, here):
        queue(shops[:1], 1)
        Lane.objects.bulk_create(
            [Lane(license=shops[0], session_status="connected", next_send_at=timezone.now() + timedelta(seconds=1.5))]
        )
        assert kpwa_json("dispatch") == (0, {"attempts": 1, "webhook_events": 0, "waiting": 0, "why_waiting": []})

    def test_what_does_not_fit_into_its_time_is_left_for_the_next_round(self, shops, phone, here):
        License.objects.update(pace_min_seconds=10, pace_max_seconds=10)
        queue(shops[:1], 3)
        began = time.monotonic()
        code, told = kpwa_json("dispatch", "--seconds", "1.5")
        assert (code, told["attempts"], told["waiting"]) == (0, 1, 2)
        [why] = told["why_waiting"]
        assert why["why"].startswith("the pace of the license; the next goes out in")
        assert time.monotonic() - began < 5
        assert not Lane.objects.exclude(lease_token=None).exists()

    @pytest.mark.parametrize(
        ("lane", "license_changed", "why", "is_trouble"),
        [
            ({}, {"is_active": False}, "the license is not active", False),
            ({}, {"api_key_ciphertext": ""}, "there is no API key; enter it: manage.py kpwa licenses set-key", True),
            ({"pause_reason": "logged_out"}, {}, "WhatsApp is logged out; checked again in … s", True),
            ({"pause_reason": "failing"}, {}, "the gateway keeps failing; checked again in … s", True),
            ({"pause_reason": "rate_limited"}, {}, "the gateway asked to wait; checked again in … s", False),
            ({"pause_reason": "by_person", "paused_until": None}, {}, "a person paused it", False),
            ({"pause_reason": "number_changed", "paused_until": None}, {}, "another phone is linked", True),
            ({"lease_token": uuid.UUID(int=1)}, {}, "another process sends for this license", False),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_it_says_why_messages_wait_and_under_v_0_only_what_needs_a_person(
        self, shops, phone, here, lane, license_changed, why, is_trouble
    ):
        queue(shops[:1], 2)
        later = timezone.now() + timedelta(seconds=60.5)
        times = {"lease_expires_at": later} if "lease_token" in lane else {"paused_until": later}
        Lane.objects.bulk_create([Lane(license=shops[0], **{**(times if lane else {}), **lane})])
        License.objects.filter(pk=shops[0].pk).update(**license_changed)

        def dispatched(*options):
            code, told = kpwa("dispatch", "--seconds", "1", *options)
            return code, re.sub(r"in \d+ s", "in … s", told)

        code, told = dispatched()
        first, second = told.splitlines()
        assert (code, first) == (0, "Sends attempted: 0. Webhook events processed: 0. Messages waiting: 2.")
        assert second.startswith(f"  2 of Pusat: {why}")
        assert dispatched("-v", "0") == (0, f"{second}\n" if is_trouble else "")

    def test_it_says_that_the_lines_of_a_sale_are_waited_for(self, shops, phone, here):
        Sale.objects.create(status=Sale.Status.PAID, customer_phone="081234567890")
        assert "  1 of Pusat: lines may still be added to its sale; due in " in kpwa("dispatch")[1]

    def test_it_says_that_no_license_can_be_chosen(self, shops, phone, here):
        License.objects.update(is_default=False)
        send_message("0812 3456 7999", "Besok")
        told = kpwa("dispatch", "-v", "0")[1]
        assert told == (
            "  1 without a license: several licenses are active, and none is the default. "
            "Run: manage.py kpwa licenses default NAME\n"
        )

    def test_it_says_that_an_attempt_is_made_again(self, shops, phone, here):
        queue(shops[:1], 1)
        OutboundMessage.objects.update(attempts_made=1, reason="not_connected", due_at=in_seconds(15.5))
        told = kpwa("dispatch")[1]
        assert (
            "  1 of Pusat: the last attempt sent nothing (not_connected), and it is tried again; due in 15 s\n" in told
        )

    def test_rounds_and_purges_are_silent_under_v_0_while_all_is_well(self, shops, phone, here):
        queue(shops[:1], 1)
        assert kpwa("dispatch", "-v", "0") == (0, "")
        assert kpwa("purge", "-v", "0") == (0, "")
        assert statuses() == {"sent": 1}

    def test_with_nothing_to_do_it_ends_at_once(self, shops, phone, here):
        began = time.monotonic()
        assert kpwa("dispatch")[0] == 0
        assert time.monotonic() - began < 1

    def test_beside_a_run_it_sends_nothing_twice(self, shops, phone, site, here):
        queue(shops, 10)
        with start_manage("kpwa", "run", **site) as process:
            process.wait_for_output("Running")
            kpwa("dispatch")
            wait_until(lambda: statuses() == {"sent": 30})
        assert len({delivery["text"] for delivery in phone.ledger()}) == len(phone.ledger()) == 30


def test_a_signal_ends_a_round_within_a_process_of_the_sites_own_and_then_reaches_its_handler(license_, monkeypatch):
    """As in a worker that runs the command in a task."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    send = locmem.LocmemGateway.send_message

    def send_and_be_told_to_stop(self, *arguments, **named):
        if not locmem.outbox:  # a second signal would end the process at once
            os.kill(os.getpid(), signal.SIGTERM)
        return send(self, *arguments, **named)

    monkeypatch.setattr(locmem.LocmemGateway, "send_message", send_and_be_told_to_stop)
    try:
        for _ in range(50):
            send_message("0812 3456 7890", "x")
        call_command("kpwa", "dispatch", verbosity=0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    states = Counter(OutboundMessage.objects.values_list("status", flat=True))
    assert states[Status.SENT] >= 1, "the call in progress was recorded"
    assert states[Status.QUEUED] > 25, "the round ended early"
    assert states.total() == states[Status.SENT] + states[Status.QUEUED]
