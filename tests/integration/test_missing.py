"""Sales whose receipt was never queued are found and sent once, however they were saved and whoever sends them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.core import mail
from django.core.management.base import CommandError
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import alerts, receipts, tasks
from django_kpwa.dispatch import sweep
from django_kpwa.health import is_quiet
from django_kpwa.health import look as look_at_health
from django_kpwa.models import KeptKey, Lane, OutboundMessage, ReceiptFailure, ReceiptLook, Status
from django_kpwa.outbox import send_message, send_to_another_number
from django_kpwa.receipts import looks, missing
from django_kpwa.receipts.missing import classes, look_for_missing, send_missing
from django_kpwa.store import store
from django_kpwa.words import Fate, Problem
from tests.cli import kpwa as run_kpwa
from tests.cli import kpwa_json
from tests.integration.times import pass_time
from tests.processes import ROOT, site_environment, start_manage, wait_until
from tests.shop.models import CounterSale, Line, Sale, Ticket
from tests.shop.whatsapp import PaidReceipt, RefundReceipt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

NUMBER = "0812 3456 7890"
PAID = "shop.sale.PaidReceipt"


def sale(minutes=10, phone=NUMBER, status=Sale.Status.PAID, **columns):
    sold_at = timezone.now() - timedelta(minutes=minutes)
    return Sale(status=status, customer_phone=phone, sold_at=sold_at, **columns)


def unheard(*sales):
    """Save sales without any signal."""
    return Sale.objects.bulk_create(sales)


def saved(*args, **columns):
    row = sale(*args, **columns)
    row.save()
    return row


def span(days=1):
    return timezone.now() - timedelta(days=days), timezone.now()


def look(label=PAID, **given):
    [registration] = classes(label)
    return look_for_missing(registration, *span(), **given)


def send(label=PAID, **given):
    [registration] = classes(label)
    return send_missing(registration, *span(), **given)


@contextmanager
def registered(receipt_class, *models):
    receipts.register(*models)(receipt_class)
    try:
        yield receipt_class
    finally:
        receipts.unregister(receipt_class)


def moved_to(status, **columns):
    row = saved(**columns)
    messages = OutboundMessage.objects.filter(source_id=str(row.pk))
    messages.update(status=status)
    return row


# What is found


def test_each_way_to_lose_a_receipt_is_found_once_and_sent_once(monkeypatch):
    by_bulk_create = unheard(sale())[0]
    by_update = saved(status=Sale.Status.OPEN)
    Sale.objects.filter(pk=by_update.pk).update(status=Sale.Status.PAID)
    with monkeypatch.context() as broken:
        broken.setattr(PaidReceipt, "get_phone_number", lambda self, sale: 1 / 0)
        by_a_class_that_raised = saved()
    by_a_killed_process = sold_by_a_process_that_is_killed_before_its_receipt()
    saved()
    found = look()
    assert found.counts == {Fate.NEVER_QUEUED: 3, Fate.FAILURE: 1, Fate.WAITING: 1}
    wanted = {str(row) for row in (by_bulk_create.pk, by_update.pk, by_a_class_that_raised.pk, by_a_killed_process)}
    assert {named.source_id for named in found.named} == wanted
    assert OutboundMessage.objects.count() == 1

    sent = send()
    assert (sent.queued, sent.missing, sent.counts) == (4, 0, {Fate.WAITING: 5})
    again = send()
    assert (again.queued, again.counts) == (0, {Fate.WAITING: 5})
    assert Counter(OutboundMessage.objects.values_list("source_id", flat=True)).most_common(1)[0][1] == 1
    assert OutboundMessage.objects.count() == 5
    assert not ReceiptFailure.objects.exists()


SELLS_AND_DIES = """
import os, signal, django
django.setup()
from django.db.models.signals import post_save
from tests.shop.models import Sale
from django_kpwa.receipts import queueing
from datetime import timedelta
from django.utils import timezone
# The sale is committed by itself; the process is killed before its receipt is.
queueing.queue_saved = lambda *args, **given: os.kill(os.getpid(), signal.SIGKILL)
Sale.objects.create(status="paid", customer_phone="0812 3456 7890", sold_at=timezone.now() - timedelta(minutes=10))
"""


def sold_by_a_process_that_is_killed_before_its_receipt():
    before = set(Sale.objects.values_list("pk", flat=True))
    ended = subprocess.run([sys.executable, "-c", SELLS_AND_DIES], cwd=ROOT, env=site_environment(), check=False)
    assert ended.returncode == -signal.SIGKILL
    [pk] = set(Sale.objects.values_list("pk", flat=True)) - before
    return pk


def test_every_fate_is_told():
    for status in Status:
        moved_to(status)
    unheard(
        sale(phone=""),
        sale(status=Sale.Status.OPEN),
        sale(minutes=0),
        sale(),
    )
    saved(phone="0812")
    assert look().counts == {
        Fate.ARRIVED: 3,
        Fate.WAITING: 2,
        Fate.FAILED: 1,
        Fate.DOUBT: 1,
        Fate.CANCELLED: 1,
        Fate.EXPIRED: 1,
        Fate.NO_NUMBER: 1,
        Fate.NOT_WANTED: 1,
        Fate.JUST_NOW: 1,
        Fate.NEVER_QUEUED: 1,
        Fate.FAILURE: 1,
    }


def test_a_sale_older_than_max_age_is_told_and_not_sent():
    unheard(sale(minutes=3 * 24 * 60))
    [registration] = classes(PAID)
    sent = send_missing(registration, *span(days=7))
    assert (sent.counts, sent.missing) == ({Fate.TOO_OLD: 1}, 0)
    assert not OutboundMessage.objects.exists()


def test_looking_stores_nothing(monkeypatch):
    unheard(sale())
    monkeypatch.setattr(PaidReceipt, "should_send", lambda self, sale: 1 / 0)
    with CaptureQueriesContext(connection) as queries:
        assert look().counts == {Fate.RAISED: 1}
    assert {query["sql"].split()[0] for query in queries} == {"SELECT"}


def test_a_class_that_raises_on_one_is_told_and_the_rest_goes_on(monkeypatch):
    first, second, third = unheard(sale(), sale(), sale())
    number = PaidReceipt.get_phone_number
    monkeypatch.setattr(
        PaidReceipt,
        "get_phone_number",
        lambda self, sale: number(self, sale) if sale.pk != second.pk else {}[f"call {NUMBER}"],
    )
    monkeypatch.setattr(PaidReceipt, "get_reference", lambda self, sale: f"INV-{sale.pk}")
    found = look()
    assert found.counts == {Fate.NEVER_QUEUED: 2, Fate.RAISED: 1}
    told = {named.reference: named.words for named in found.named}
    assert told.keys() == {f"INV-{row.pk}" for row in (first, second, third)}
    assert told[f"INV-{second.pk}"].startswith("KeyError")
    assert "3456" not in told[f"INV-{second.pk}"]
    sent = send()
    assert (sent.queued, sent.counts) == (2, {Fate.WAITING: 2, Fate.FAILURE: 1})
    assert ReceiptFailure.objects.get().source_id == str(second.pk)


@pytest.mark.parametrize("given", [[], Sale, Ticket])
def test_candidates_that_are_none_are_told(monkeypatch, given):
    rows = given.objects.all() if given is Ticket else given
    monkeypatch.setattr(PaidReceipt, "get_candidates", lambda self, since, until: rows)
    found = look()
    assert found.error.startswith("TypeError: get_candidates() returned")
    assert not found.is_complete


def test_candidates_that_raise_are_told_and_break_no_transaction(monkeypatch):
    monkeypatch.setattr(
        PaidReceipt, "get_candidates", lambda self, since, until: Sale.objects.extra(where=["no_such_column = 1"])
    )
    assert "no_such_column" in look().error
    assert Sale.objects.count() == 0


def test_a_class_that_does_not_say_is_left_out():
    class Silent(receipts.Receipt):
        template_name = "shop/paid.txt"
        max_age = None

        def should_send(self, ticket):
            return True

        def get_phone_number(self, ticket):
            return NUMBER

    before = classes()
    with registered(Silent, Ticket):
        assert classes() == before
        assert classes("shop.ticket.Silent") == []


# Which sale a message belongs to


def test_a_message_of_another_receipt_or_of_the_site_is_none():
    row = unheard(sale())[0]
    send_message(NUMBER, "Pesanan siap", source=row)
    assert look().counts == {Fate.NEVER_QUEUED: 1}


def test_a_copy_that_arrived_elsewhere_is_the_receipt():
    row = saved()
    message = OutboundMessage.objects.get(source_id=str(row.pk))
    OutboundMessage.objects.update(text="struk", rendered_at=timezone.now(), status=Status.FAILED)
    copy = send_to_another_number(message, "0813 9876 5432")
    OutboundMessage.objects.filter(pk=copy.pk).update(status=Status.DELIVERED)
    assert look().counts == {Fate.ARRIVED: 1}


def test_each_event_of_an_object_is_looked_for():
    row = saved(status=Sale.Status.REFUNDED, refunds=1)
    refund = "shop.sale.RefundReceipt"
    assert look(refund).counts == {Fate.WAITING: 1}
    Sale.objects.filter(pk=row.pk).update(refunds=2)
    assert look(refund).counts == {Fate.NEVER_QUEUED: 1}
    assert send(refund).queued == 1
    assert look(refund).counts == {Fate.WAITING: 1}


def test_a_purged_message_is_remembered():
    row = saved()
    message = OutboundMessage.objects.get()
    OutboundMessage.objects.update(status=Status.SENT)
    store().purge(OutboundMessage.objects.all(), [message.pk])
    assert KeptKey.objects.exists()
    assert look().counts == {Fate.ARRIVED: 1}
    assert send().queued == 0
    assert not OutboundMessage.objects.filter(source_id=str(row.pk)).exists()


def test_a_primary_key_that_is_used_again_is_another_sale():
    row = saved(minutes=60 * 30)
    OutboundMessage.objects.update(
        created_at=timezone.now() - timedelta(hours=30), status=Status.SENT, rendered_at=timezone.now()
    )
    Sale.objects.all().delete()
    unheard(sale(phone="0813 1111 2222", id=row.pk))
    assert look().counts == {Fate.NEVER_QUEUED: 1}
    assert send().queued == 1
    assert look().counts == {Fate.WAITING: 1}


def test_a_class_of_a_model_and_its_proxy_looks_once(monkeypatch):
    class BothReceipt(PaidReceipt):
        event = "both"

        def get_candidates(self, since, until):
            return CounterSale.objects.filter(sold_at__gte=since)

    with registered(BothReceipt, Sale, CounterSale):
        saved()
        unheard(sale())
        found = [look(f"shop.{model}.BothReceipt") for model in ("sale", "countersale")]
        assert [each.counts for each in found] == [{}, {Fate.WAITING: 1, Fate.NEVER_QUEUED: 1}]
        assert send("shop.countersale.BothReceipt").queued == 1
        assert look("shop.countersale.BothReceipt").counts == {Fate.WAITING: 2}


# Large numbers of sales


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(missing._Look, "BATCH_SIZE", 3)


@pytest.mark.usefixtures("small_batches")
def test_batches_meet_each_object_once_also_where_a_join_repeats_it(monkeypatch):
    for row in unheard(*(sale() for _ in range(10))):
        Line.objects.bulk_create([Line(sale=row, name="Kopi", price=18000) for _ in range(2)])
    monkeypatch.setattr(
        PaidReceipt, "get_candidates", lambda self, since, until: Sale.objects.filter(lines__price__gt=0)
    )
    steps = []
    found = look(tell=lambda so_far: steps.append(so_far.looked_at))
    assert found.counts == {Fate.NEVER_QUEUED: 10}
    assert steps == sorted(steps)
    assert len(steps) > 3


@pytest.mark.usefixtures("small_batches")
def test_batches_go_by_any_primary_key():
    class TicketReceipt(receipts.Receipt):
        template_name = "shop/paid.txt"
        max_age = None

        def should_send(self, ticket):
            return True

        def get_phone_number(self, ticket):
            return NUMBER

        def get_candidates(self, since, until):
            return Ticket.objects.order_by("holder")

    with registered(TicketReceipt, Ticket):
        Ticket.objects.bulk_create([Ticket(holder=f"T-{number}") for number in range(10)])
        Ticket.objects.create(holder="T-10")
        found = look("shop.ticket.TicketReceipt")
        assert found.counts == {Fate.NEVER_QUEUED: 10, Fate.WAITING: 1}
        assert {named.reference for named in found.named} == {f"T-{number}" for number in range(10)}
        assert send("shop.ticket.TicketReceipt").queued == 10


def test_an_object_with_a_message_is_not_loaded(monkeypatch):
    for _ in range(5):
        saved()
    monkeypatch.setattr(PaidReceipt, "should_send", lambda self, sale: pytest.fail("should_send was called"))
    with CaptureQueriesContext(connection) as queries:
        assert look().counts == {Fate.WAITING: 5}
    assert len([query for query in queries if query["sql"].startswith("SELECT")]) == 2


@pytest.mark.usefixtures("small_batches")
def test_a_look_that_is_stopped_says_so():
    unheard(*(sale() for _ in range(10)))
    left = iter([False] * 5)
    found = look(should_stop=lambda: next(left, True))
    assert not found.is_complete
    assert 0 < found.looked_at < 10


def test_the_first_hundred_are_named():
    unheard(*(sale() for _ in range(105)))
    found = look()
    assert len(found.named) == found.MAX_NAMED == 100
    assert found.missing == 105


@pytest.mark.slow
def test_twenty_thousand_take_the_memory_of_a_batch():
    for _ in range(4):
        unheard(*(sale() for _ in range(5000)))
    tracemalloc.start()
    try:
        found = look()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.counts == {Fate.NEVER_QUEUED: 20_000}
    assert most < 10 * 2**20, most


# Several at the same time


def test_two_who_press_at_once_send_once():
    unheard(*(sale() for _ in range(40)))
    found, errors = [], []

    def press():
        try:
            found.append(send())
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [each.missing for each in found] == [0, 0]
    assert OutboundMessage.objects.count() == 40


def test_two_processes_at_once_send_once():
    unheard(*(sale() for _ in range(40)))
    arguments = [sys.executable, "manage.py", "kpwa", "missing", "--since", "1h", "--send", "--receipt", PAID]
    pressed = [
        subprocess.Popen(arguments, cwd=ROOT, env=site_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in pressed:
        process.communicate(timeout=60)
    assert [process.returncode for process in pressed] == [0, 0]
    assert OutboundMessage.objects.count() == 40


def test_a_till_that_saves_the_same_sale_meanwhile_sends_once(monkeypatch):
    row = unheard(sale())[0]
    asked = PaidReceipt.should_send

    def till_saves(self, sale):
        monkeypatch.setattr(PaidReceipt, "should_send", asked)
        Sale.objects.get(pk=row.pk).save()
        return asked(self, sale)

    monkeypatch.setattr(PaidReceipt, "should_send", till_saves)
    assert send().missing == 0
    assert OutboundMessage.objects.count() == 1


# The command


def test_the_command_tells_names_and_sends(monkeypatch):
    monkeypatch.setattr(PaidReceipt, "get_reference", lambda self, sale: f"INV-{sale.pk}")
    saved()
    row = unheard(sale())[0]
    code, told = run_kpwa("missing", "--since", "2h", "--receipt", PAID)
    assert code == 1
    assert f"Paid receipt ({PAID}), " in told
    assert "1  never queued" in told
    assert "1  waiting" in told
    assert f"INV-{row.pk}" in told
    assert "--send" in told
    assert "3456" not in told
    code, told = run_kpwa("missing", "--since", "2h", "--receipt", "PaidReceipt", "--send")
    assert code == 0
    assert "Queued now: 1." in told
    code, found = kpwa_json("missing", "--since", "2h", "--send")
    assert code == 0
    assert [(each["receipt"], each["looked_at"], each["queued"]) for each in found["receipts"]] == [
        (PAID, 2, 0),
        ("shop.sale.RefundReceipt", 2, 0),
    ]


def test_the_command_says_what_it_cannot_do(monkeypatch):
    with pytest.raises(CommandError, match=f"No receipt is registered as .*Known: {PAID}"):
        run_kpwa("missing", "--receipt", "shop.sale.Nothing")
    with pytest.raises(CommandError, match="not before"):
        run_kpwa("missing", "--since", "1h", "--until", "2h")
    monkeypatch.setattr(PaidReceipt, "get_candidates", lambda self, since, until: 1 / 0)
    code, told = run_kpwa("missing", "--receipt", PAID)
    assert code == 1
    assert "ZeroDivisionError" in told
    for receipt_class in (PaidReceipt, RefundReceipt):
        monkeypatch.setattr(receipt_class, "get_candidates", receipts.Receipt.get_candidates)
    with pytest.raises(CommandError, match="get_candidates"):
        run_kpwa("missing")


# The regular check


def stored(label=PAID):
    return ReceiptLook.objects.get(receipt=label)


def let_hours_pass(hours=1):
    """Make the last check look that many hours older."""
    ago = timedelta(hours=hours)
    for row in ReceiptLook.objects.exclude(since=None):
        columns = {"begun_at": row.begun_at - ago, "since": row.since - ago, "until": row.until - ago}
        ReceiptLook.objects.filter(pk=row.pk).update(**columns)


def gap():
    found = look_at_health().find(Problem.NEVER_QUEUED)
    return found and found.figures["number"]


def test_a_regular_look_tells_of_a_gap_until_it_is_filled():
    unheard(sale(), sale())
    assert gap() is None
    assert looks.look_regularly() == 2
    assert gap() == "2"
    assert not is_quiet()
    assert stored().counts == {"never_queued": 2}
    run_kpwa("missing", "--since", "1h", "--send")
    assert gap() is None
    assert stored().counts == {"waiting": 2}


def test_within_the_hour_nobody_looks_again():
    assert looks.look_regularly() == 2
    unheard(sale())
    with CaptureQueriesContext(connection) as queries:
        assert looks.look_regularly() == 0
    assert len(queries) == 2
    let_hours_pass()
    assert looks.look_regularly() == 2
    assert gap() == "1"


def test_yesterday_is_looked_at_once_a_day_and_the_last_hour_once_an_hour():
    unheard(sale(), sale(minutes=50 * 60))
    looks.look_regularly()
    today = timezone.localdate(timezone.now() - missing.GRACE)
    assert (stored().day, timezone.localtime(stored().since).hour) == (today, 0)
    assert timezone.localdate(stored().since) == today - timedelta(days=1)
    send()
    looks.look_again(classes(PAID)[0])
    let_hours_pass()
    looks.look_regularly()
    assert timezone.now() - stored().since < timedelta(hours=2)
    ReceiptLook.objects.update(day=today - timedelta(days=1))
    let_hours_pass()
    looks.look_regularly()
    assert timezone.localdate(stored().since) == today - timedelta(days=1)
    assert stored().day == today


def test_a_gap_is_not_forgotten_by_the_next_look():
    looks.look_regularly()
    let_hours_pass(3)
    unheard(sale(minutes=100))
    looks.look_regularly()
    assert gap() == "1"
    let_hours_pass(2)
    looks.look_regularly()
    assert gap() == "1"


def test_a_sale_of_the_last_minute_is_no_gap():
    unheard(sale(minutes=0))
    looks.look_regularly()
    assert gap() is None


def test_a_class_that_raises_is_told_by_the_regular_look(monkeypatch):
    unheard(sale())
    with monkeypatch.context() as broken:
        broken.setattr(PaidReceipt, "should_send", lambda self, sale: 1 / 0)
        looks.look_regularly()
    assert look_at_health().find(Problem.MISSING_UNKNOWN)
    assert stored().unclear == 1
    let_hours_pass()
    looks.look_regularly()
    assert not look_at_health().find(Problem.MISSING_UNKNOWN)
    assert gap() == "1"


def test_candidates_that_cannot_be_asked_are_told_and_other_classes_looked_at(monkeypatch):
    monkeypatch.setattr(PaidReceipt, "get_candidates", lambda self, since, until: [])
    unheard(sale(status=Sale.Status.REFUNDED))
    looks.look_regularly()
    assert stored().error.startswith("TypeError")
    assert look_at_health().find(Problem.MISSING_UNKNOWN)
    assert gap() == "1"


def test_one_of_many_processes_looks():
    looked = []

    def process():
        try:
            looked.append(looks.look_regularly())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=process) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(looked) == 2  # each class was checked once


def test_the_row_of_a_class_that_is_gone_is_forgotten():
    looks.look_regularly()
    gone = ReceiptLook.objects.create(receipt="shop.sale.Gone", begun_at=timezone.now(), never_queued=3)
    assert gap() is None
    ReceiptLook.objects.filter(pk=gone.pk).update(begun_at=timezone.now() - timedelta(days=8))
    let_hours_pass()
    looks.look_regularly()
    assert not ReceiptLook.objects.filter(pk=gone.pk).exists()


@pytest.mark.parametrize("arguments", [("dispatch", "--seconds", "1"), ("purge",)])
def test_cron_looks_as_well(arguments):
    unheard(sale())
    run_kpwa(*arguments)
    assert stored().never_queued == 1


def test_the_task_looks_as_well():
    unheard(sale())
    tasks.look_for_missing()
    assert stored().never_queued == 1


def test_kpwa_run_looks_as_well():
    unheard(sale())
    with start_manage("kpwa", "run"):
        wait_until(lambda: ReceiptLook.objects.filter(never_queued=1).exists(), what="the look of kpwa run")


def test_a_gap_opens_an_alert_and_closes_it_once_it_is_filled(kpwa, license_):
    kpwa(ALERT_EMAILS=["owner@shop.example"])
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    unheard(*(sale() for _ in range(3)))
    looks.look_regularly()

    def tell():
        sweep()
        return [told.event for told in alerts.check() if told.code == "never_queued"]

    assert store().may_look_for_alerts() in (True, False)
    assert tell() == []
    pass_time(seconds=61)
    assert tell() == ["opened"]
    body = next(message.body for message in mail.outbox if "never queued" in message.subject)
    assert "for some sales none was ever made: 3" in body
    assert "3456" not in body
    send()
    looks.look_again(classes(PAID)[0])
    tell()
    pass_time(seconds=61)
    assert tell() == ["closed"]
    assert any("No receipt is missing any more" in message.body for message in mail.outbox)
