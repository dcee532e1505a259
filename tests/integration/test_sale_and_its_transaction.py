"""A sale that the till reports is stored: whatever fails in its transaction leaves the transaction alive or raises.

Connections are really killed, and deadlocks are real. SQLite's transactions have no such failures. There,
triggers roll back the whole transaction.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

from django_kpwa import license_actions, receipts
from django_kpwa.containing import contained
from django_kpwa.exceptions import KpwaError, RolledBackError, TransactionLostError
from django_kpwa.gateway import ServiceStatus, SessionStatus
from django_kpwa.models import License, OutboundMessage, ReceiptFailure
from django_kpwa.outbox import Message, cancel, send_message, send_messages
from django_kpwa.receipts.preview import preview
from django_kpwa.signals import license_status_changed
from tests.sessions import end_session
from tests.shop.models import Sale

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

NUMBER = "0812 3456 7890"
PAID = {"status": Sale.Status.PAID, "customer_phone": NUMBER}


def end_transaction(alias="default"):
    """End the transaction from outside, in a way that exists on this database."""
    if connections[alias].vendor != "sqlite":
        end_session(alias)
        return
    with connections[alias].cursor() as cursor:
        # This is a real end: the refused statement rolls back the whole transaction.
        cursor.execute("UPDATE tests_that_end_it SET ended = 1")


@pytest.fixture(autouse=True)
def _sqlites_trigger():
    if connection.vendor != "sqlite":
        yield
        connections.close_all()
        return
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE tests_that_end_it (ended integer)")
        cursor.execute("INSERT INTO tests_that_end_it VALUES (0)")
        cursor.execute(
            "CREATE TRIGGER tests_end BEFORE UPDATE ON tests_that_end_it BEGIN SELECT RAISE(ROLLBACK, 'ended'); END"
        )
        for change in ("INSERT", "UPDATE"):
            cursor.execute(
                f"CREATE TRIGGER tests_end_{change} BEFORE {change} ON django_kpwa_outboundmessage "
                "WHEN EXISTS (SELECT 1 FROM tests_that_end_it WHERE ended = 2) "
                "BEGIN SELECT RAISE(ROLLBACK, 'ended'); END"
            )
    yield
    connections.close_all()
    with connection.cursor() as cursor:
        for change in ("INSERT", "UPDATE"):
            cursor.execute(f"DROP TRIGGER tests_end_{change}")
        cursor.execute("DROP TABLE tests_that_end_it")


def end_at_our_next_statement():
    """The same, but in a statement of the package instead of the caller's own."""
    if connection.vendor != "sqlite":
        end_session()
        return
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO tests_that_end_it VALUES (2)")


class Deadly(receipts.Receipt):
    """Ends the transaction in one of its methods, named by `moment`. If `hides` is True, it swallows the error."""

    event = "deadly"
    moment = "get_license"
    hides = False
    ends = staticmethod(end_transaction)

    def _meet(self, moment):
        if moment != self.moment:
            return
        try:
            type(self).ends()
            License.objects.count()
        except DatabaseError:
            if not self.hides:
                raise

    def should_send(self, sale):
        self._meet("should_send")
        return sale.status == Sale.Status.PAID

    def get_phone_number(self, sale):
        self._meet("get_phone_number")
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.sold_at

    def get_license(self, sale):
        self._meet("get_license")
        return None

    def render(self, sale, **context):
        return f"Catatan {sale.pk}"


@pytest.fixture(params=["should_send", "get_phone_number", "get_license"])
def deadly(request, monkeypatch):
    receipts.register(Sale)(Deadly)
    monkeypatch.setattr(Deadly, "moment", request.param)
    yield Deadly
    receipts.unregister(Deadly)


def is_there(key):
    connections.close_all()
    return Sale.objects.filter(pk=key).exists()


def sell(block):
    """Sell at a till: return the number that the customer is told, or raise."""
    with block():
        sale = Sale.objects.create(**PAID)
    return sale.pk


@contextmanager
def nested():
    with transaction.atomic(), transaction.atomic():
        yield


@contextmanager
def nested_without_savepoint():
    with transaction.atomic(), transaction.atomic(savepoint=False):
        yield


BLOCKS = pytest.mark.parametrize("block", [transaction.atomic, nested, nested_without_savepoint])


@BLOCKS
@pytest.mark.parametrize("hides", [False, True], ids=["raises", "hides it"])
def test_a_sale_whose_transaction_ends_in_its_receipt_is_heard(deadly, monkeypatch, block, hides):
    monkeypatch.setattr(deadly, "hides", hides)
    before = Sale.objects.count()
    with pytest.raises(TransactionLostError, match="save everything in it again"):
        sell(block)
    connections.close_all()
    assert Sale.objects.count() == before
    if connection.vendor != "sqlite" or not hides:
        # Otherwise SQLite commits the later statements on their own. The message then has no sale and is never sent.
        assert not OutboundMessage.objects.exists()


@BLOCKS
@pytest.mark.usefixtures("deadly")
def test_who_catches_that_in_the_block_hears_it_at_the_blocks_end(block):
    def till():
        with block():
            try:
                sale = Sale.objects.create(**PAID)
            except Exception:
                return 0
        return sale.pk

    with pytest.raises(KpwaError):
        till()
    assert not is_there(1)


def fail(request):
    return HttpResponse(Sale.objects.create(**PAID).pk, status=201)


def careless(request):
    sale = Sale.objects.create(customer_phone=NUMBER)
    try:
        end_at_our_next_statement()
        send_message(NUMBER, "struk")
    except Exception:
        pass
    return HttpResponse(sale.pk, status=201)


urlpatterns = [path("sell", fail), path("careless", careless)]


@pytest.fixture
def atomic_requests():
    with override_settings(ROOT_URLCONF=__name__):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        yield Client(raise_request_exception=False)
        connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.usefixtures("deadly")
def test_a_view_under_atomic_requests_answers_500_for_a_sale_that_is_not_there(atomic_requests):
    answer = atomic_requests.post("/sell")
    assert answer.status_code == 500
    connections.close_all()
    assert not Sale.objects.exists()


def test_a_view_that_catches_what_send_message_raises_answers_500_too(atomic_requests):
    answer = atomic_requests.post("/careless")
    connections.close_all()
    assert answer.status_code == 500
    assert not Sale.objects.exists()


@pytest.mark.usefixtures("deadly")
def test_in_autocommit_the_sale_is_there_and_the_failure_is_kept():
    if connection.vendor == "sqlite":
        pytest.skip("nothing ends a connection to a file")
    key = sell(nullcontext)
    assert is_there(key)
    assert ReceiptFailure.objects.filter(source_id=str(key), receipt__endswith="Deadly").count() == 1


@BLOCKS
@pytest.mark.parametrize("call", ["send_message", "send_messages", "cancel"])
def test_a_caller_who_catches_a_calls_error_hears_at_the_blocks_end_that_the_sale_is_lost(license_, block, call):
    waiting = send_message(NUMBER, "menunggu")
    calls = {
        "send_message": lambda: send_message(NUMBER, "struk"),
        "send_messages": lambda: send_messages([Message(NUMBER, "struk")]),
        "cancel": lambda: cancel(waiting),
    }

    def till():
        with block():
            sale = Sale.objects.create(customer_phone=NUMBER)
            try:
                end_at_our_next_statement()
                calls[call]()
            except DatabaseError:
                pass
        return sale.pk

    with pytest.raises((RolledBackError, DatabaseError)):
        till()
    connections.close_all()
    assert not Sale.objects.exists()
    # The connection works as before.
    sell(transaction.atomic)
    assert Sale.objects.count() == 1


@contextmanager
def where_storing_fails():
    """Make the database itself refuse the statement that stores a message."""

    def refused(execute, sql, params, many, context):
        if OutboundMessage._meta.db_table in sql and "INSERT" in sql:
            return execute("SELECT 1 FROM nowhere", None, many, context)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refused):
        yield


def test_an_error_in_the_callers_own_savepoint_costs_that_savepoint_and_no_more(license_):
    """The usual way to catch an error: the transaction around the savepoint survives."""
    with transaction.atomic():
        sale = Sale.objects.create(customer_phone=NUMBER)
        with where_storing_fails(), pytest.raises(DatabaseError), transaction.atomic():
            send_message(NUMBER, "struk", license=license_)
        assert send_message(NUMBER, "lain").license == license_
    assert is_there(sale.pk)


def test_a_connection_that_is_lost_in_the_callers_own_savepoint_is_heard_at_the_end_of_the_block_around_it(license_):
    def till():
        with transaction.atomic():
            sale = Sale.objects.create(customer_phone=NUMBER)
            try:
                with transaction.atomic():
                    end_at_our_next_statement()
                    send_message(NUMBER, "struk", license=license_)
            except DatabaseError:
                pass
        return sale.pk

    with pytest.raises((RolledBackError, DatabaseError)):
        till()
    connections.close_all()
    assert not Sale.objects.exists()


def test_a_sale_that_is_done_again_as_a_whole_is_there_once(license_):
    def pay():
        for attempt in range(2):
            try:
                with transaction.atomic():
                    sale = Sale.objects.create(**PAID)
                    if not attempt:
                        end_at_our_next_statement()
                    send_message(NUMBER, "dapur", idempotency_key=f"kitchen:{attempt}")
                return sale
            except DatabaseError:  # an OperationalError, except from SQLite's trigger
                if attempt:
                    raise

    sale = pay()
    assert is_there(sale.pk)
    assert Sale.objects.count() == 1
    assert OutboundMessage.objects.filter(text="dapur").count() == 1


def test_who_rolls_back_on_purpose_is_not_disturbed(license_):
    def till():
        with transaction.atomic():
            Sale.objects.create(customer_phone=NUMBER)
            try:
                send_message(NUMBER, "struk", license=license_)
            except DatabaseError:
                transaction.set_rollback(True)
                return "told: not sold"
        return "sold"

    with where_storing_fails():
        assert till() == "told: not sold"
    assert not Sale.objects.exists()


def test_an_error_of_the_receipt_leaves_the_transaction_alive(deadly, monkeypatch):
    def refuse():
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")

    monkeypatch.setattr(deadly, "ends", staticmethod(refuse))
    key = sell(transaction.atomic)
    assert is_there(key)
    assert ReceiptFailure.objects.filter(source_id=str(key)).count() == 1
    assert OutboundMessage.objects.filter(source_id=str(key)).count() == 1


@pytest.fixture
def till(settings):
    """Sales in a database of their own, named `till`, and over their own connections."""
    if connection.vendor == "sqlite":
        pytest.skip("two connections to one file wait for each other")
    connections["till"] = connection.copy("till")
    settings.DATABASE_ROUTERS = [SalesElsewhere()]
    yield "till"
    connections["till"].close()
    del connections["till"]


def test_a_sale_on_another_database_than_the_outbox_is_heard_too(deadly, monkeypatch, till):
    monkeypatch.setattr(deadly, "ends", staticmethod(lambda: (end_session(till), Sale.objects.count())))
    with pytest.raises(TransactionLostError), transaction.atomic(using=till):
        Sale.objects.create(**PAID)
    connections[till].close()
    assert not Sale.objects.exists()


def test_where_the_outbox_dies_alone_the_sale_is_there_and_the_failure_is_kept(deadly, monkeypatch, till):
    monkeypatch.setattr(deadly, "ends", staticmethod(end_session))
    with transaction.atomic(using=till):
        sale = Sale.objects.create(**PAID)
    connections[till].close()
    assert Sale.objects.filter(pk=sale.pk).exists()
    assert ReceiptFailure.objects.filter(source_id=str(sale.pk), receipt__endswith="Deadly").count() == 1


def test_what_is_caught_after_another_databases_commit_is_heard_at_the_end_of_the_outbox_block(till):
    with pytest.raises(KpwaError), transaction.atomic():
        sale = Sale.objects.using("default").create(customer_phone=NUMBER)
        with transaction.atomic(using=till):
            Sale.objects.create(**PAID)
            end_session()
    connections.close_all()
    assert not Sale.objects.using("default").filter(pk=sale.pk).exists()


class SalesElsewhere:
    def db_for_write(self, model, **hints):
        return "till" if model is Sale else "default"

    db_for_read = db_for_write


def test_a_deadlock_whose_victim_is_the_receipt_is_heard(license_, monkeypatch):
    """On MariaDB, the victim of a deadlock loses the whole transaction, including its savepoints."""
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time has no deadlocks")
    rows = [Sale.objects.create(refunds=n) for n in range(2)]
    told, outcomes = [], []
    both_hold = threading.Barrier(2, timeout=30)

    class Entangled(receipts.Receipt):
        def should_send(self, sale):
            if sale.status != Sale.Status.REFUNDED:
                return False
            both_hold.wait()
            other = rows[1] if sale.pk == rows[0].pk else rows[0]
            Sale.objects.filter(pk=other.pk).update(customer_phone="1")
            return False

        def get_phone_number(self, sale):
            return NUMBER

        def get_occurred_at(self, sale):
            return sale.sold_at

        def render(self, sale, **context):
            return ""

    receipts.register(Sale)(Entangled)

    def refund(sale):
        try:
            with transaction.atomic():
                sale.status = Sale.Status.REFUNDED
                sale.save()
            told.append(sale.pk)
        except DatabaseError as error:
            outcomes.append(error)
        finally:
            connections.close_all()

    try:
        threads = [threading.Thread(target=refund, args=[row]) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        receipts.unregister(Entangled)
    refunded = set(Sale.objects.filter(status=Sale.Status.REFUNDED).values_list("pk", flat=True))
    assert refunded == set(told)
    assert len(told) + len(outcomes) == 2
    # PostgreSQL's victim loses only a statement: its savepoint saves the sale, and the failure is stored.
    assert len(told) == (2 if connection.vendor == "postgresql" else 1)


def test_a_signals_receiver_that_fails_on_the_database_leaves_the_transaction_alive(license_):
    def receiver(**_):
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")

    license_status_changed.connect(receiver)
    try:
        with transaction.atomic():
            sale = Sale.objects.create()
            license_actions.note_status(license_, ServiceStatus(SessionStatus.CONNECTED))
    finally:
        license_status_changed.disconnect(receiver)
    assert is_there(sale.pk)


def test_a_preview_in_a_transaction_that_ends_is_heard(deadly):
    registration = next(each for each in receipts.registry.registrations(Sale) if isinstance(each.receipt, Deadly))
    sale = Sale.objects.create(customer_phone=NUMBER)
    with pytest.raises(TransactionLostError), transaction.atomic():
        preview(registration, sale)


def test_what_is_contained_outside_a_transaction_is_contained():
    with contained("default") as caught:
        raise KeyError
    assert isinstance(caught.error, KeyError)
