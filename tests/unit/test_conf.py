"""The `KPWA` settings dict."""

from __future__ import annotations

from dataclasses import fields
from datetime import time

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_kpwa.conf import DOCUMENTED_BASE_URLS, Settings, kpwa_settings, lease_seconds
from django_kpwa.gateway import load_gateway_class
from django_kpwa.gateway.console import ConsoleGateway
from django_kpwa.gateway.locmem import LocmemGateway
from django_kpwa.schedule import beat_schedule


def test_without_the_dict_every_setting_has_its_default(settings):
    del settings.KPWA
    assert kpwa_settings() == Settings()
    assert kpwa_settings().BASE_URLS == DOCUMENTED_BASE_URLS


def test_a_change_is_seen_at_once(settings):
    settings.KPWA = {"PROBE_SECONDS": 3.5}
    assert kpwa_settings().PROBE_SECONDS == 3.5
    settings.KPWA = {}
    assert kpwa_settings().PROBE_SECONDS == 30.0


def test_a_change_to_an_equal_value_of_another_type_is_seen(settings):
    settings.KPWA = {"PROBE_SECONDS": 1}
    assert kpwa_settings().PROBE_SECONDS == 1.0
    settings.KPWA = {"PROBE_SECONDS": True}
    with pytest.raises(ImproperlyConfigured):
        kpwa_settings()


def test_a_change_within_the_dict_is_seen(settings):
    settings.KPWA = {"PROBE_SECONDS": 7}  # a value that no other test uses
    assert kpwa_settings().PROBE_SECONDS == 7.0
    settings.KPWA["PROBE_SECONDS"] = 2
    assert kpwa_settings().PROBE_SECONDS == 2.0


def test_settings_that_did_not_change_are_read_once(settings):
    settings.KPWA = {"PROBE_SECONDS": 3.5}
    assert kpwa_settings() is kpwa_settings()


def test_the_sites_dict_is_not_written_to(settings):
    given = {"RETENTION_DAYS": {"events": 7}, "BASE_URLS": ["http://127.0.0.1"]}
    settings.KPWA = given
    read = kpwa_settings()
    assert given == {"RETENTION_DAYS": {"events": 7}, "BASE_URLS": ["http://127.0.0.1"]}
    assert read.RETENTION_DAYS == {"messages": 365, "events": 7, "statistics": 730, "strangers": 7}
    assert read.BASE_URLS == ("http://127.0.0.1",)


def test_a_whole_number_serves_for_seconds(settings):
    settings.KPWA = {"CALL_DEADLINE_SECONDS": 30, "PACE_SECONDS": [0, 0]}
    assert isinstance(kpwa_settings().CALL_DEADLINE_SECONDS, float)
    assert kpwa_settings().PACE_SECONDS == (0, 0)


def test_the_quiet_hours_are_times_of_day_or_none(settings):
    settings.KPWA = {"QUIET_HOURS": ["22:30", "06:15"]}
    assert kpwa_settings().quiet_hours == (time(22, 30), time(6, 15))
    settings.KPWA = {"QUIET_HOURS": None}
    assert kpwa_settings().quiet_hours is None
    settings.KPWA = {}
    assert kpwa_settings().quiet_hours == (time(21), time(7))


def test_a_name_that_is_not_known_is_refused_with_those_that_are(settings):
    for name in ("GATEWAYS", "SWEEP_SECONDS"):
        settings.KPWA = {name: 1}
        with pytest.raises(ImproperlyConfigured, match=f"'{name}'.*is not a setting.*GATEWAY, BASE_URLS"):
            kpwa_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY", 5),
        ("BASE_URLS", "https://wa.kpntr.com/backend"),
        ("BASE_URLS", {"a": 1}),
        ("MAX_ATTEMPTS", "6"),
        ("MAX_ATTEMPTS", 6.5),
        ("MAX_ATTEMPTS", True),
        ("CALL_DEADLINE_SECONDS", "30"),
        ("CALL_DEADLINE_SECONDS", True),
        ("CALL_DEADLINE_SECONDS", None),
        ("RETENTION_DAYS", [365]),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(settings, name, value):
    settings.KPWA = {name: value}
    with pytest.raises(ImproperlyConfigured, match=name):
        kpwa_settings()


HOLDERS = [setting.name for setting in fields(Settings) if setting.type.startswith(("tuple", "dict"))]
NUMBERS = [setting.name for setting in fields(Settings) if setting.type in ("int", "float")]


@pytest.mark.parametrize("name", [name for name in HOLDERS if name != "PACE_SECONDS"])
def test_what_a_value_holds_is_of_one_type_too(settings, name):
    """`PACE_SECONDS` is not tested here because a system check covers it."""
    values = {"ALERT_URLS": ({None: ""}, {"https://x.example": 5}), "RETENTION_DAYS": ({5: 5}, {"messages": "30"})}
    for wrong in values.get(name, ([None], [[]])):
        settings.KPWA = {name: wrong}
        with pytest.raises(ImproperlyConfigured, match=name):
            kpwa_settings()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_nothing_can_be_done_with_is_refused(settings, name):
    for wrong in (-1, float("nan"), float("inf")):
        settings.KPWA = {name: wrong}
        with pytest.raises(ImproperlyConfigured, match=name):
            kpwa_settings()


@pytest.mark.parametrize("name", ["CALL_DEADLINE_SECONDS", "MAX_ATTEMPTS", "FAILURES_BEFORE_PAUSE", "PROBE_SECONDS"])
def test_a_zero_is_refused_where_nothing_would_be_sent_or_asked_at_once_for_ever(settings, name):
    settings.KPWA = {name: 0}
    with pytest.raises(ImproperlyConfigured, match=f"{name}.* must be more than 0"):
        kpwa_settings()


@pytest.mark.parametrize("days", [{"messages": 0}, {"messages": -1}, {"message": 30}, {"messages": True}])
def test_a_purge_deletes_nothing_by_a_slip_in_its_days(settings, days):
    settings.KPWA = {"RETENTION_DAYS": days}
    with pytest.raises(ImproperlyConfigured, match="RETENTION_DAYS"):
        kpwa_settings()


def test_a_value_of_another_type_is_not_shown(settings):
    settings.KPWA = {"WEBHOOK_PASSWORD": ["hunter2"]}
    with pytest.raises(ImproperlyConfigured) as refused:
        kpwa_settings()
    assert "hunter2" not in str(refused.value)


def test_what_is_no_dict_is_refused(settings):
    settings.KPWA = ["GATEWAY"]
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        kpwa_settings()


def test_every_setting_has_a_name_in_capitals_and_names_its_unit_or_none():
    assert all(setting.name.isupper() for setting in fields(Settings))


def test_a_lease_outlasts_everything_that_a_driver_does_under_it(settings):
    for seconds in (0.2, 2, 45, 100):
        settings.KPWA = {"CALL_DEADLINE_SECONDS": seconds}
        conf = kpwa_settings()
        assert lease_seconds(conf) > seconds + conf.status_deadline_seconds + conf.record_seconds


@pytest.mark.parametrize(
    ("path", "gateway_class"),
    [
        ("django_kpwa.gateway.console.ConsoleGateway", ConsoleGateway),
        ("django_kpwa.gateway.locmem.LocmemGateway", LocmemGateway),
    ],
)
def test_the_gateway_is_named_by_its_dotted_path(settings, path, gateway_class):
    settings.KPWA = {"GATEWAY": path}
    assert load_gateway_class() is gateway_class


@pytest.mark.parametrize(
    "path",
    [
        "",
        "locmem",
        "django_kpwa.gateway.nowhere.Gateway",
        "django_kpwa.gateway.locmem.Nothing",
        "django_kpwa.conf.Settings",
    ],
)
def test_a_gateway_that_is_none_is_refused_by_name(settings, path):
    settings.KPWA = {"GATEWAY": path}
    with pytest.raises(ImproperlyConfigured, match=r"KPWA\['GATEWAY'\]"):
        load_gateway_class()


@pytest.mark.parametrize("seconds", [0, -1, 61])
def test_a_schedule_that_would_look_dead_is_refused(seconds):
    with pytest.raises(ValueError, match="at most 60"):
        beat_schedule(seconds)
