"""A checkout waits for no row that a worker holds, holds none that a worker needs, and never deadlocks with another."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from django_kpwa import license_actions, receipts
from django_kpwa.exceptions import LicenseChoiceError
from django_kpwa.models import Lane, License, OutboundMessage, ReceiptFailure
from django_kpwa.outbox import Message, cancel, send_message, send_messages
from tests.shop.models import Sale

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("lane")]

NUMBER = "0812 3456 7890"
PAID = {"status": Sale.Status.PAID, "customer_phone": NUMBER}
HELD = {
    "lane": "UPDATE django_kpwa_lane SET probes = probes + 1",
    "license": "UPDATE django_kpwa_license SET api_key_hint = 'x'",
    "license for update": "SELECT * FROM django_kpwa_license FOR UPDATE",
}


@pytest.fixture
def lane(license_):
    return Lane.objects.create(license=license_)


@pytest.fixture
def isolation(request):
    """Run the test under each of these transaction isolation levels, if the database has levels."""
    if connection.vendor != "mysql":
        yield
        return
    options = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = {**options, "isolation_level": request.param}
    connection.close()
    yield
    connection.settings_dict["OPTIONS"] = options
    connection.close()


def be_impatient():
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET lock_timeout = '1s'")
        elif connection.vendor == "mysql":
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")


@contextmanager
def another_session():
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.close()


class FromTheLicense(receipts.Receipt):
    def should_send(self, sale):
        return sale.status == Sale.Status.PAID

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.sold_at

    def get_license(self, sale):
        return License.objects.get()

    def render(self, sale, **context):
        return f"Catatan {sale.pk}"


@pytest.fixture
def sale_with_a_license():
    receipts.register(Sale)(FromTheLicense)
    yield
    receipts.unregister(FromTheLicense)


def checkouts():
    license_ = License.objects.get()
    return {
        "send_message": lambda: send_message(NUMBER, "struk"),
        "its license": lambda: send_message(NUMBER, "struk", license=license_),
        "with a key": lambda: send_message(NUMBER, "struk", idempotency_key="order-1"),
        "send_messages": lambda: send_messages(Message(NUMBER, key, idempotency_key=key) for key in "cab"),
        "a sale": lambda: Sale.objects.create(**PAID),
    }


levels = pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"], indirect=True)


@levels
@pytest.mark.parametrize("held", HELD)
@pytest.mark.usefixtures("sale_with_a_license", "isolation")
def test_a_checkout_does_not_wait_for_the_rows_of_lane_and_license(held):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer, and others wait for it, as the docs say")
    be_impatient()
    with another_session() as worker:
        worker.execute("BEGIN")
        worker.execute(HELD[held])
        for name, checkout in checkouts().items():
            with transaction.atomic():
                checkout()
            assert not ReceiptFailure.objects.exists(), name
        worker.execute("ROLLBACK")
    assert OutboundMessage.objects.count() == 8


@levels
@pytest.mark.usefixtures("sale_with_a_license", "isolation")
def test_a_sale_that_stays_open_keeps_nobody_from_lane_and_license():
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer, and others wait for it, as the docs say")
    be_impatient()
    with another_session() as worker:
        worker.execute(
            "SET lock_timeout = '1s'"
            if connection.vendor == "postgresql"
            else "SET SESSION innodb_lock_wait_timeout = 1"
        )
        for checkout in checkouts().values():
            with transaction.atomic():
                checkout()
                for statement in HELD.values():
                    worker.execute("BEGIN")
                    worker.execute(statement)
                    worker.execute("ROLLBACK")


def test_on_sqlite_a_reader_in_wal_mode_keeps_nobody_waiting_and_a_writer_everybody():
    if connection.vendor != "sqlite":
        pytest.skip("this is about SQLite's WAL mode")
    with another_session() as worker:
        worker.execute("PRAGMA busy_timeout = 100")
        worker.execute("BEGIN")
        worker.execute("SELECT * FROM django_kpwa_lane")
        worker.fetchall()
        send_message(NUMBER, "struk")
        worker.execute("ROLLBACK")
        with transaction.atomic():
            send_message(NUMBER, "struk")
            with pytest.raises(OperationalError, match="locked"):
                worker.execute("UPDATE django_kpwa_lane SET probes = 1")


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_license_that_is_gone_gets_no_message_and_one_with_messages_is_not_deleted(license_, many):
    gone = License.objects.create(name="Cabang")
    License.objects.filter(pk=gone.pk).delete()
    with pytest.raises(LicenseChoiceError, match="no longer exists"):
        if many:
            send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=gone)])
        else:
            send_message(NUMBER, "struk", license=gone)
    assert not OutboundMessage.objects.exists()
    send_message(NUMBER, "struk", license=license_)
    with pytest.raises(ProtectedError):
        license_.delete()


@pytest.mark.parametrize("is_held", [False, True], ids=["free", "held"])
def test_a_decision_leaves_the_callers_own_limit_as_it_was(is_held):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's limit ends with a transaction")
    message = send_message(NUMBER, "struk")
    with another_session() as worker:
        worker.execute("BEGIN")
        if is_held:
            worker.execute("SELECT * FROM django_kpwa_outboundmessage FOR UPDATE")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '7s'")
            assert cancel(message) is not is_held
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("7s",)
        worker.execute("ROLLBACK")


def test_who_ends_a_pause_in_a_transaction_holds_no_message_when_asking_for_the_lane(license_):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time, so no deadlocks")
    message = send_message(NUMBER, "struk")
    OutboundMessage.objects.update(created_at=timezone.now() - timedelta(hours=1))
    license_actions.pause(license_)
    asked = []
    with another_session() as driver:

        def ask(execute, sql, *arguments):
            if "SET" in sql and "django_kpwa_lane" in sql:
                asked.append(sql)
                if len(asked) == 1:
                    driver.execute("SELECT * FROM django_kpwa_outboundmessage FOR UPDATE NOWAIT")
            return execute(sql, *arguments)

        with transaction.atomic(), connection.execute_wrapper(ask):
            assert license_actions.resume(license_)
    assert asked
    message.refresh_from_db()
    assert message.priority == 51


def test_a_pause_is_not_ended_while_another_process_holds_the_lane(license_):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer, and others wait for it, as the docs say")
    Lane.objects.update(pause_reason="by_person")
    with another_session() as worker:
        worker.execute("BEGIN")
        worker.execute("SELECT * FROM django_kpwa_lane FOR UPDATE")
        assert not license_actions.resume(license_)
        worker.execute("ROLLBACK")
    assert Lane.objects.get().pause_reason == "by_person"
    assert license_actions.resume(license_)
    assert Lane.objects.get().pause_reason == ""


def test_two_batches_with_their_keys_in_another_order_do_not_deadlock():
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time, so no deadlocks")
    failed = []

    def store(together, keys):
        try:
            together.wait()
            with transaction.atomic():
                send_messages(Message(NUMBER, key, idempotency_key=key) for key in keys)
                Sale.objects.create()
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    for turn in range(12):
        keys = [f"{turn}-{n}" for n in range(700)]
        together = threading.Barrier(2, timeout=30)
        threads = [threading.Thread(target=store, args=[together, order]) for order in (keys, keys[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failed == []
    assert OutboundMessage.objects.count() == 12 * 700
    assert Sale.objects.count() == 24


def test_a_batch_goes_out_in_the_order_given_whatever_its_keys():
    texts = [f"{n * 7919 % 100}" for n in range(100)]
    send_messages(Message(NUMBER, text, idempotency_key=text) for text in texts)
    assert list(OutboundMessage.objects.order_by("due_at", "id").values_list("text", flat=True)) == texts


@levels
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_key_stored_after_the_snapshot_returns_its_message(isolation, many):
    if connection.vendor != "mysql":
        pytest.skip("only MariaDB repeats reads in this way")
    be_impatient()

    def store(text):
        if many:
            return send_messages([Message(NUMBER, text, idempotency_key=key) for key in ("order-1", "order-2")])[0]
        return send_message(NUMBER, text, idempotency_key="order-1")

    def first():
        store("first")
        connections.close_all()

    with transaction.atomic():
        assert not OutboundMessage.objects.exists()
        thread = threading.Thread(target=first)
        thread.start()
        thread.join(30)
        # Meanwhile a worker changes the row. By its key: an UPDATE of all rows also locks the place of every new one.
        with another_session() as worker:
            worker.execute("BEGIN")
            worker.execute("SELECT MIN(id) FROM django_kpwa_outboundmessage")
            worker.execute("UPDATE django_kpwa_outboundmessage SET attempts_made = 1 WHERE id = %s", worker.fetchone())
            known = store("second")
            worker.execute("ROLLBACK")
        sale = Sale.objects.create()
    assert (known.text, known.pk) == ("first", OutboundMessage.objects.get(idempotency_key="order-1").pk)
    assert Sale.objects.filter(pk=sale.pk).exists()
