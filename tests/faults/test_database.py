"""Rows 13 and 32: dropped database connections, a database that restarts, and one whose disk is full."""

from __future__ import annotations

import os
import signal
import time

import pytest
from django.db import DatabaseError, connection

from django_kpwa.models import OutboundMessage, Status, WebhookEvent
from tests.processes import wait_until
from tests.servers import is_ours

from .harness import unknown


@pytest.mark.parametrize(
    ("failpoint", "pool"),
    [
        ("before_claim", "prefork"),
        ("after_claim", "prefork"),
        ("after_post", "prefork"),
        pytest.param("after_post", "threads", marks=pytest.mark.slow),
        ("after_record", "prefork"),
    ],
)
def test_a_connection_dropped_at_any_moment_of_a_send_loses_nothing(shop, failpoint, pool):
    shop.start_worker(pool, **{failpoint: {"do": "disconnect", "at": 1 if failpoint == "before_claim" else 3}})
    shop.start_beat()
    shop.send(6)
    shop.reached(failpoint)
    shop.settle()
    assert shop.statuses().get(Status.UNKNOWN, 0) <= 1
    if failpoint == "after_post":
        # The outcome is recorded over a fresh connection.
        assert shop.statuses() == {Status.SENT: 6}


def crash_the_database():
    """Kill one backend, as the OOM killer would: PostgreSQL ends all connections and recovers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    witness = connection.copy()
    witness.ensure_connection()
    os.kill(pid, signal.SIGKILL)
    connection.close()
    # The server notices a moment later. Until then it accepts new connections, which it would end as well.
    wait_until(lambda: not witness.is_usable(), 60, "everybody to be thrown out")
    witness.close()


def throw_everybody_out():
    """A restart of the database, as its clients see it."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db = database()")
        for [session] in cursor.fetchall():
            try:
                cursor.execute(f"KILL {int(session)}")
            except DatabaseError:
                pass  # already ended


def answers():
    try:
        return OutboundMessage.objects.exists()
    except DatabaseError:
        connection.close()
        return False


@pytest.fixture
def break_database():
    """A crash if the server belongs to the tests, otherwise the end of all sessions; SQLite's lock is held for long."""
    if connection.vendor == "postgresql" and is_ours():
        return crash_the_database
    if connection.vendor != "sqlite":
        return throw_everybody_out

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            time.sleep(2)
            cursor.execute("ROLLBACK")

    return hold


def test_a_database_restarted_in_a_run_of_a_thousand_loses_none(shop, break_database):
    messages = shop.send(1000)
    shop.start_worker()
    shop.start_beat()
    for count in (150, 400, 700):
        wait_until(lambda count=count: shop.arrived() >= count, 200, f"{count} deliveries")
        break_database()
        wait_until(answers, 60, "the database to be back")
    shop.settle()
    assert len(messages) == sum(shop.statuses().values()) == 1000
    assert set(shop.statuses()) <= {Status.SENT, Status.UNKNOWN}
    # At most the one in progress at each of the three.
    assert len(unknown()) <= 3


def test_a_sale_whose_connection_is_lost_is_there_or_its_till_is_told(shop):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no server sessions that could end")
    at = 0
    while shop.sell_losing_the_connection(at):
        at += 1
    assert at > 5
    assert len(shop.sold) == 1, "only the last sale kept its connection"
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.arrived() == 1


FULL = {
    "postgresql": (
        """CREATE FUNCTION kpwa_full() RETURNS trigger AS $$ BEGIN
           IF NEW.outcome = 'accepted' THEN
               RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
           END IF; RETURN NEW; END $$ LANGUAGE plpgsql""",
        """CREATE TRIGGER kpwa_full BEFORE UPDATE ON django_kpwa_sendattempt
           FOR EACH ROW EXECUTE FUNCTION kpwa_full()""",
    ),
    "mysql": (
        """CREATE TRIGGER kpwa_full BEFORE UPDATE ON django_kpwa_sendattempt FOR EACH ROW
           IF NEW.outcome = 'accepted' THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021; END IF""",
    ),
    "sqlite": (
        """CREATE TRIGGER kpwa_full BEFORE UPDATE ON django_kpwa_sendattempt WHEN NEW.outcome = 'accepted'
           BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END""",
    ),
}
SPACE_AGAIN = {
    "postgresql": ("DROP TRIGGER kpwa_full ON django_kpwa_sendattempt", "DROP FUNCTION kpwa_full"),
    "mysql": ("DROP TRIGGER kpwa_full",),
    "sqlite": ("DROP TRIGGER kpwa_full",),
}


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def full_disk(transactional_db):
    """No accepted send can be recorded, until `make_space()`."""
    execute(*FULL[connection.vendor])
    state = ["full"]

    def make_space():
        if state:
            state.clear()
            execute(*SPACE_AGAIN[connection.vendor])

    yield make_space
    make_space()


def test_a_full_disk_at_the_record_leaves_one_message_in_doubt(shop, full_disk):
    worker = shop.start_worker()
    shop.start_beat()
    shop.send(6)
    worker.wait_for_output("could not be recorded", 60)
    full_disk()
    shop.settle()
    # The number that was tried while nothing could be recorded, each of them once.
    tried = worker.output.count("could not be recorded")
    assert shop.statuses() == {Status.SENT: 6 - tried, Status.UNKNOWN: tried}
    assert shop.arrived() == 6


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_moment_costs_nothing(make_shop, full_disk):
    shop = make_shop(CALL_DEADLINE_SECONDS=20)
    worker = shop.start_worker()
    shop.send(6)
    worker.wait_for_output("Recording the outcome failed", 60)
    full_disk()
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 6}


def test_a_webhook_refused_by_a_database_that_is_down_is_stored_later(shop):
    content = {"id": "A1", "from": "6281299000099", "message": "halo"}
    shop.post_webhook({"id": "A0", "message": "halo"})

    def down(execute, sql, params, many, context):
        raise DatabaseError("the database is down")

    with connection.execute_wrapper(down):
        assert shop.post_webhook(content) == 503
    assert WebhookEvent.objects.count() == 1
    shop.hears = True
    shop.start_worker()
    shop.start_beat()
    assert [shop.post_webhook(content), shop.post_webhook(content)] == [200, 200]
    wait_until(lambda: [line for line in shop.heard() if line["signal"] == "message_received"], 60, "the event")
