"""Alerts: when they open, remind and close, what they say, and that only one of many processes sends them."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_kpwa import alerts, signals
from django_kpwa.alerts import compare
from django_kpwa.dispatch import sweep
from django_kpwa.formatting import short_time
from django_kpwa.models import (
    Alert,
    Heartbeat,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    Status,
)
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from tests.integration.times import pass_time
from tests.processes import ROOT, site_environment

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "0812 3456 7890"


@pytest.fixture
def well(license_, kpwa):
    """A linked license, a sweep a moment ago, and an address for alerts."""
    kpwa(ALERT_EMAILS=["owner@shop.example"])
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    sweep()
    return license_


def pause(reason=PauseReason.LOGGED_OUT, **columns):
    Lane.objects.update(pause_reason=reason, paused_at=timezone.now(), session_status="qr", **columns)


def resume():
    license_id = Lane.objects.values_list("pk", flat=True).first()
    store().lift_pause(license_id, PauseReason.LOGGED_OUT)
    Lane.objects.update(session_status="connected", session_seen_at=timezone.now())


def look():
    """Look for alerts once, and return the events that were sent."""
    assert store().may_look_for_alerts() in (True, False)
    return [told.event for told in alerts.check()]


def subjects():
    return [message.subject for message in mail.outbox]


def test_an_alert_opens_after_a_minute_reminds_once_after_an_hour_and_closes_once(well):
    pause()
    assert look() == []
    pass_time(seconds=61)
    assert (look(), look()) == (["opened"], [])
    pass_time(minutes=59)
    assert look() == []
    pass_time(minutes=2)
    assert (look(), look()) == (["reminded"], [])
    pass_time(hours=5)
    assert look() == []
    resume()
    assert look() == []
    pass_time(seconds=61)
    assert (look(), look()) == (["closed"], [])
    alert = Alert.objects.get()
    assert (alert.code, alert.key, alert.untold) == ("license_stopped", None, "")
    assert subjects() == [
        "WhatsApp of Toko Utama: Needs a scan",
        "Still: WhatsApp of Toko Utama: Needs a scan",
        "WhatsApp of Toko Utama: Connected again",
    ]


def test_an_evening(well):
    """WhatsApp is logged out over a night in which 140 receipts wait and some expire.

    The figures in the alerts come from the database.
    """
    pause()
    began = timezone.now()
    send_messages([Message(NUMBER, f"struk {number}") for number in range(140)])
    look()
    pass_time(seconds=30)
    look()
    pass_time(seconds=60)
    assert look() == ["opened"]
    assert "WhatsApp logged out since" in mail.outbox[0].body
    assert "140 receipts waiting" in mail.outbox[0].body
    pass_time(minutes=60)
    assert look() == ["reminded"]
    pass_time(hours=12, minutes=6, seconds=30)
    ids = list(OutboundMessage.objects.values_list("pk", flat=True))[:79]
    OutboundMessage.objects.filter(pk__in=ids).update(expires_at=timezone.now() - timedelta(minutes=1))
    sweep()
    resume()
    assert look() == []
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED).count()
    expired = OutboundMessage.objects.filter(status=Status.EXPIRED).count()
    assert (waiting, expired) == (61, 79)
    ended = Alert.objects.get().gone_at
    pass_time(seconds=61)
    OutboundMessage.objects.filter(status=Status.QUEUED).update(status=Status.SENT)
    assert look() == ["closed"]
    assert mail.outbox[2].body.partition("\n\n")[0] == (
        f"Connected again at {short_time(ended - timedelta(seconds=61))} after 13 h 8 min; 61 follow, 79 expired."
    )
    assert (timezone.now() - began).total_seconds() < 60, "the test waited in real time"


def test_a_site_in_indonesian_is_told_in_indonesian(well, settings):
    settings.LANGUAGE_CODE = "id"
    pause()
    pass_time(minutes=2)
    look()
    pass_time(minutes=2)
    look()
    [told] = mail.outbox
    assert "Perlu" in told.subject or "pindai" in told.subject
    assert re.search(r"\b\d{1,2}\.\d\d\b", told.body)


def test_what_flaps_within_a_minute_opens_and_closes_nothing(well):
    for _ in range(3):
        pause()
        assert look() == []
        pass_time(seconds=40)
        resume()
        assert look() == []
        pass_time(seconds=40)
    assert not Alert.objects.exists()
    pause()
    look()
    pass_time(seconds=70)
    assert look() == ["opened"]
    for _ in range(3):
        resume()
        assert look() == []
        pass_time(seconds=40)
        pause()
        assert look() == []
        pass_time(seconds=40)
    assert len(mail.outbox) == 1


@hypothesis_settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(5, 200)), min_size=1, max_size=12))
def test_whatever_happens_an_alert_opens_and_closes_after_a_minute_and_no_sooner(well, steps):
    """A model-based test: looks every 5 to 200 seconds at a license that is stopped or not."""
    Alert.objects.all().delete()
    resume()
    look()
    was_stopped, is_open, lasted = False, False, 0
    for is_stopped, seconds in steps:
        if is_stopped != was_stopped:
            pause() if is_stopped else resume()
            was_stopped, lasted = is_stopped, 0
            assert look() == []
        else:
            events = look()
            is_due = is_stopped != is_open and lasted >= 60
            assert events == ([("opened" if is_stopped else "closed")] if is_due else []) or events == ["reminded"]
            is_open = is_stopped if is_due else is_open
        pass_time(seconds=seconds)
        lasted += seconds


def test_a_license_that_a_person_pauses_or_switches_off_is_not_connected_again(well):
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened"]
    Lane.objects.update(pause_reason=PauseReason.BY_PERSON)
    assert look() == []
    pass_time(minutes=2)
    assert look() == []
    License.objects.update(is_active=False)
    look()
    pass_time(minutes=2)
    assert look() == ["closed"]
    assert mail.outbox[-1].subject == "WhatsApp of Toko Utama: Switched off"


@pytest.mark.parametrize("reason", [PauseReason.BY_PERSON, PauseReason.RATE_LIMITED])
def test_a_pause_that_a_person_made_or_that_ends_by_itself_is_not_told(well, reason):
    pause(reason)
    Lane.objects.update(session_status="connected")
    look()
    pass_time(minutes=2)
    assert look() == []
    assert not Alert.objects.exists()


def test_a_process_that_dies_before_it_told_is_replaced_after_two_minutes(well, monkeypatch):
    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    pause()
    look()
    pass_time(minutes=2)
    with monkeypatch.context() as patch:
        patch.setattr("django_kpwa.alerts.compare.told_of", die)
        with pytest.raises(Died):
            alerts.check()
    assert look() == []
    pass_time(seconds=119)
    assert look() == []
    pass_time(seconds=2)
    assert look() == ["opened"]
    assert look() == []
    assert len(mail.outbox) == 1


def test_where_no_way_worked_it_is_tried_again_later_and_later(well, settings, caplog):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    heard = []
    signals.alert_opened.connect(lambda alert, **_: heard.append(alert.pk), weak=False, dispatch_uid="heard")
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened"]
    assert Alert.objects.get().failures == 1
    assert "could not be delivered by e-mail: ConnectionRefusedError" in caplog.text
    pass_time(seconds=121)
    assert look() == ["opened"]
    pass_time(seconds=121)
    assert look() == []
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    pass_time(seconds=121)
    assert look() == ["opened"]
    assert (Alert.objects.get().untold, Alert.objects.get().failures) == ("", 0)
    assert len(heard) == 1
    signals.alert_opened.disconnect(dispatch_uid="heard")


def test_signals_and_the_log_say_it_once(well, caplog):
    heard = []

    def hear(signal, alert, title, text, **_):
        heard.append((signal is signals.alert_opened, alert.code, title, text))

    for signal in (signals.alert_opened, signals.alert_closed):
        signal.connect(hear, dispatch_uid="hear")
    OutboundMessage.objects.all().delete()
    message = send_message(NUMBER, "struk")
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=timezone.now() - timedelta(minutes=25))
    with caplog.at_level(logging.INFO, "django_kpwa.alerts"):
        look()
        pass_time(minutes=2)
        assert look() == ["opened"]
        OutboundMessage.objects.all().delete()
        look()
        pass_time(minutes=2)
        assert look() == ["closed"]
    for signal in (signals.alert_opened, signals.alert_closed):
        signal.disconnect(dispatch_uid="hear")
    assert [(is_opened, code) for is_opened, code, *_ in heard] == [(True, "late"), (False, "late")]
    assert heard[0][2] == "WhatsApp receipts: Late"
    lines = [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "django_kpwa.alerts"
    ]
    assert [level for level, _ in lines] == ["ERROR", "INFO"]
    assert lines[0][1].startswith("Alert late. Look at what the worker does")


def test_a_pause_is_logged_where_it_begins_and_not_again(well, caplog):
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened"]
    assert not [record for record in caplog.records if record.name == "django_kpwa.alerts"]


def test_a_licenses_own_address_is_told_of_it_and_of_the_site(well):
    License.objects.update(alert_email="toko@shop.example")
    License.objects.create(name="Cabang", alert_email="cabang@shop.example")
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened"]
    Heartbeat.objects.filter(name="sweep").update(seen_at=timezone.now() - timedelta(minutes=9))
    look()
    pass_time(seconds=61)
    assert look() == ["opened"]
    assert [(told.to, told.bcc) for told in mail.outbox] == [
        (["owner@shop.example"], ["toko@shop.example"]),
        (["owner@shop.example"], ["cabang@shop.example", "toko@shop.example"]),
    ]


def test_many_alerts_at_once_are_told_look_by_look(well):
    for number in range(14):
        license_ = License.objects.create(name=f"Cabang {number:02}", api_key_ciphertext="x")
        Lane.objects.create(license=license_)
    pause()
    look()
    pass_time(minutes=2)
    assert [len(look()) for _ in range(3)] == [compare.MAX_AT_ONCE, 15 - compare.MAX_AT_ONCE, 0]
    assert [subject.rpartition(", ")[2] for subject in subjects()] == ["and 10 more", "and 3 more"]
    assert sum(told.body.count("WhatsApp of ") for told in mail.outbox) == 15


def test_what_is_told_at_once_goes_to_each_address_as_one_mail_of_what_concerns_it(well):
    License.objects.update(alert_email="toko@shop.example")
    cabang = License.objects.create(name="Cabang", alert_email="cabang@shop.example", api_key_ciphertext="x")
    Lane.objects.create(license=cabang)
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened", "opened"]

    told = {(*message.to, *message.bcc): message for message in mail.outbox}
    assert set(told) == {("owner@shop.example",), ("toko@shop.example",), ("cabang@shop.example",)}
    assert told["owner@shop.example",].subject.endswith(": Needs a scan, and 1 more")
    for name in ("Toko Utama", "Cabang"):
        assert f"WhatsApp of {name}: Needs a scan\nWhatsApp logged out since" in told["owner@shop.example",].body
    assert told["cabang@shop.example",].subject == "WhatsApp of Cabang: Needs a scan"
    assert "Toko Utama" not in told["cabang@shop.example",].body
    assert set(Alert.objects.values_list("untold", flat=True)) == {""}


def test_a_mail_names_what_is_wrong_before_what_is_over(well):
    pause()
    look()
    pass_time(minutes=2)
    assert look() == ["opened"]
    resume()
    Heartbeat.objects.filter(name="sweep").update(seen_at=timezone.now() - timedelta(minutes=9))
    look()
    pass_time(seconds=61)
    assert sorted(look()) == ["closed", "opened"]
    assert mail.outbox[-1].subject.startswith("WhatsApp receipts: ")
    assert "Connected again" in mail.outbox[-1].body


def test_a_site_is_looked_at_once_in_25_seconds(well):
    Heartbeat.objects.filter(name="alerts").delete()
    assert [store().may_look_for_alerts() for _ in range(3)] == [True, False, False]
    pass_time(seconds=31)
    assert [store().may_look_for_alerts() for _ in range(3)] == [True, False, False]


TEN_THAT_LOOK = """
import os, sys, django; django.setup()
from django.db import connection
from django_kpwa.alerts import check
from django_kpwa.health import look
from django_kpwa.models import Alert

look()  # imports what all of them need
connection.close()
told_ready, is_ready = os.pipe()
may_look, lets_look = os.pipe()
children = []
for _ in range(10):
    if child := os.fork():
        children.append(child)
        continue
    os.close(lets_look)
    list(Alert.objects.all())
    os.write(is_ready, b".")
    os.read(may_look, 1)
    for _ in range(3): check()
    os._exit(0)  # taking the interpreter apart would cost each more than its looks
for _ in children:
    os.read(told_ready, 1)
os.close(lets_look)  # which ends the wait of all at once
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_of_several_that_make_the_same_change_one_alone_tells(license_):
    long_ago = timezone.now() - timedelta(hours=2)
    row = Alert.objects.create(key="late", code="late", since=long_ago, noticed_at=long_ago)
    assert [store().open_alert(row.pk, is_sure=True) for _ in range(3)] == [True, False, False]
    Alert.objects.update(opened_at=long_ago)
    assert [store().remind_of_alert(row.pk) for _ in range(3)] == [True, False, False]
    assert not store().close_alert(row.pk), "the alert closed although its problem is not gone"
    Alert.objects.update(gone_at=long_ago)
    assert [store().close_alert(row.pk) for _ in range(3)] == [True, False, False]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_ten_processes_that_look_at_once_tell_once(well, tmp_path, kpwa):
    another = License(name="Cabang")
    another.set_api_key("another-api-key-0001")
    another.save()
    Lane.objects.create(license=another)
    environment = {
        **site_environment(kpwa={"ALERT_EMAILS": ["owner@shop.example"]}),
        "KPWA_TEST_MAIL_FOLDER": str(tmp_path),
    }
    pause()
    look()
    pass_time(minutes=2)
    subprocess.run([sys.executable, "-c", TEN_THAT_LOOK], cwd=ROOT, env=environment, check=True, timeout=60)
    told = [path.read_text() for path in tmp_path.iterdir()]
    # One process may find both, and then sends them in one mail.
    for name in ("Cabang", "Toko Utama"):
        assert [f"WhatsApp of {name}: Needs a scan" in text for text in told].count(True) == 1, told
    assert set(Alert.objects.values_list("untold", flat=True)) == {""}
