"""The system checks of settings: each reports its problem, says what to write, and is silent otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.core import checks
from django.db import connection
from django.middleware.security import SecurityMiddleware

from django_kpwa.gateway.http import HttpGateway
from django_kpwa.schedule import BEAT_SCHEDULE, beat_schedule

HTTP = "django_kpwa.gateway.http.HttpGateway"


def found(databases: tuple[str, ...] = ()) -> dict[str, checks.CheckMessage]:
    """Return the results of the checks, by id. In Django 6.1, None means all databases, so the default is a list."""
    messages = checks.run_checks(tags=["kpwa"], databases=databases)
    assert all(message.hint for message in messages)
    return {message.id: message for message in messages}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PACE": 1}, "KPWA['PACE'] is not a setting"),
        ({"PACE_SECONDS": 4}, "must be a list or tuple"),
        ({"PACE_SECONDS": (8, 4)}, "must be the shortest and the longest wait"),
        ({"PACE_SECONDS": (1, 2, 3)}, "must be the shortest and the longest wait"),
        ({"PACE_SECONDS": (4, float("inf"))}, "must be the shortest and the longest wait"),
        ({"PACE_SECONDS": ("4", "8")}, "must be the shortest and the longest wait"),
        ({"QUIET_HOURS": "21:00-07:00"}, "must be a list or tuple"),
        ({"QUIET_HOURS": ()}, "must be two different times of day, for example ('21:00', '07:00'), or None"),
        ({"QUIET_HOURS": ("21:00",)}, "must be two different times of day"),
        ({"QUIET_HOURS": ("21:00", "24:00")}, "must be two different times of day"),
        ({"QUIET_HOURS": ("9pm", "7am")}, "must be two different times of day"),
        ({"QUIET_HOURS": ("21:00", "7:00")}, "must be two different times of day"),
        ({"QUIET_HOURS": (21, 7)}, "must be two different times of day"),
        ({"QUIET_HOURS": ("07:00", "07:00")}, "must be two different times of day"),
        ({"GATEWAY": "shop.Nowhere"}, "cannot be imported"),
        ({"GATEWAY": "django_kpwa.models.License"}, "not a subclass"),
        ({"WEBHOOK_PARSER": "shop.nowhere.Parser"}, "No module named 'shop"),
        ({"WEBHOOK_PARSER": "django_kpwa.webhooks.parsers"}, "not a django_kpwa.webhooks.Parser"),
        ({"WEBHOOK_USERNAME": "gateway"}, "is set without WEBHOOK_PASSWORD"),
        ({"GATEWAY": HTTP, "BASE_URLS": []}, "KPWA['BASE_URLS'] is empty"),
        ({"GATEWAY": HTTP, "BASE_URLS": ["127.0.0.1:8900/backend"]}, "Write one like https://wa.kpntr.com/backend"),
        ({"GATEWAY": HTTP, "BASE_URLS": ["https://key@wa.example/backend"]}, "contains a user name"),
        ({"RESTRICTION_MARKS": (463,)}, "must contain values of the type str only"),
        ({"RESTRICTION_MARKS": ("463", " ")}, "must contain only words"),
        ({"RESEND_UNKNOWN": ("time_out",)}, "names a cause that does not exist"),
        ({"ALLOWED_GATEWAY_HOSTS": ["https://wa.example"]}, "must contain host names only"),
        ({"ALLOWED_GATEWAY_HOSTS": ["wa.example", 5]}, "must contain values of the type str only"),
        ({"DEFAULT_REGION": "Indonesia"}, "is not a region code"),
        ({"HEARTBEAT_URL": "http://hc.example/secret"}, "KPWA['HEARTBEAT_URL'] is not an https URL"),
        ({"HEALTH_SECRET": "short"}, "KPWA['HEALTH_SECRET'] could be guessed"),
        ({"HEALTH_SECRET": "with/a/slash-0123456789-0123456789"}, "KPWA['HEALTH_SECRET'] could be guessed"),
    ],
    ids=str,
)
def test_wrong_settings_are_an_error(kpwa, changed, words):
    kpwa(**changed)
    error = found()["kpwa.E001"]
    assert error.level == checks.ERROR
    assert words in error.msg


def test_addresses_of_a_gateway_that_asks_none_are_not_looked_at(kpwa):
    kpwa(GATEWAY="django_kpwa.gateway.console.ConsoleGateway", BASE_URLS=["127.0.0.1:8900/backend"])
    assert "kpwa.E001" not in found()


def test_what_a_developers_machine_sets_rightly_is_not_reproved_by_its_tests(kpwa, settings, monkeypatch):
    """Django's test runner runs the checks with DEBUG off. With the sandbox, 127.0.0.1 is correct."""
    settings.DEBUG, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = False, [], [COMMON]
    kpwa(GATEWAY=HTTP, PUBLIC_URL="http://127.0.0.1:8000")
    assert {"kpwa.W076", "kpwa.W078"} <= set(found())
    monkeypatch.setattr("django_kpwa.rehearsal._reaching_outside", 0)
    assert not {"kpwa.W076", "kpwa.W078"} & set(found())


def test_the_settings_of_the_documentation_are_no_error(kpwa):
    kpwa(PACE_SECONDS=(4, 8), RESEND_UNKNOWN=["logged_out", "timeout"], DEFAULT_REGION="SG", GATEWAY=HTTP)
    assert "kpwa.E001" not in found()


def test_settings_that_cannot_be_read_silence_the_checks_that_need_them(settings):
    settings.KPWA = "nonsense"
    assert set(found()) <= {"kpwa.E001", "kpwa.W001"}


def test_time_zones_are_required(settings):
    assert "kpwa.E002" not in found()
    settings.USE_TZ = False
    assert found()["kpwa.E002"].hint == "Set USE_TZ = True in the settings."


class TestBroker:
    def test_none_is_a_warning_that_names_the_ways_without(self, celery_settings):
        celery_settings(broker_url="")
        assert "kpwa run" in found()["kpwa.W001"].hint

    def test_one_that_is_set_for_an_app_that_nobody_imports_is_said_to_be_that(self, celery_settings, settings):
        settings.CELERY_BROKER_URL = "redis://127.0.0.1:6379/0"
        celery_settings(broker_url="")
        warning = found()["kpwa.W001"]
        assert "CELERY_BROKER_URL is set, but no Celery app of this process reads it" in warning.msg
        assert "Import your Celery app in the project's __init__.py" in warning.hint
        celery_settings(broker_url="redis://127.0.0.1:6379/0")
        assert "kpwa.W001" not in found()

    def test_tasks_that_go_to_no_worker_are_a_warning_whatever_the_broker_is(self, celery_settings):
        for url in ("", "amqp://127.0.0.1:5672//"):
            celery_settings(broker_url=url, task_always_eager=True)
            messages = found()
            assert "kpwa run" in messages["kpwa.W100"].hint
            assert "kpwa.W001" not in messages
        celery_settings(task_always_eager=False)
        assert "kpwa.W100" not in found()

    def test_a_sites_own_tests_may_run_tasks_so(self, celery_settings, monkeypatch):
        celery_settings(broker_url="amqp://127.0.0.1:5672//", task_always_eager=True)
        monkeypatch.setattr("django_kpwa.rehearsal._reaching_outside", 0)
        assert "kpwa.W100" not in found()

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("sqs://", "its client is not installed: install what Celery's docs name"),
            ("redis://:hunter2@127.0.0.1:none/0", "its address cannot be read (ValueError)"),
            ("fax://127.0.0.1", "its address cannot be read (KeyError)"),
        ],
    )
    def test_a_broker_that_cannot_be_tried_is_a_warning(self, celery_settings, url, why):
        celery_settings(broker_url=url)
        warning = found()["kpwa.W012"]
        assert why in warning.msg
        assert "hunter2" not in str(warning)
        celery_settings(broker_url="redis://127.0.0.1:6379/0")
        assert "kpwa.W012" not in found()

    def test_the_extra_that_brings_the_client_is_named(self):
        lines = (
            "import sys",
            "sys.modules['redis'] = None  # as if it were not installed",
            "from celery import current_app",
            "current_app.conf.broker_url = 'redis://127.0.0.1:6379/0'",
            "from django_kpwa import broker",
            "print(broker.why_unusable())",
        )
        told = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
        assert told.stdout == 'its client is not installed: pip install "django-kpwa[redis]"\n'

    def test_redis_without_timeouts_is_a_warning(self, celery_settings):
        celery_settings(broker_url="redis://127.0.0.1:6379/0", broker_transport_options={})
        assert "socket_timeout" in found()["kpwa.W002"].hint

    def test_redis_with_timeouts_and_rabbitmq_are_none(self, celery_settings):
        celery_settings(broker_url="redis://127.0.0.1:6379/0", broker_transport_options={"socket_timeout": 5})
        assert not {"kpwa.W001", "kpwa.W002"} & set(found())
        celery_settings(broker_url="amqp://127.0.0.1:5672//", broker_transport_options={})
        assert not {"kpwa.W001", "kpwa.W002"} & set(found())

    def test_a_beat_that_does_not_sweep_is_a_warning(self, celery_settings):
        others = {"report": {"task": "shop.report", "schedule": 60}}
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=others)
        warning = found()["kpwa.W009"]
        assert "never sent" in warning.msg
        assert "beat_schedule()" in warning.hint

    @pytest.mark.parametrize("name", BEAT_SCHEDULE)
    def test_whatever_beat_does_not_run_is_named(self, celery_settings, name):
        scheduled = {f"mine-{key}": entry for key, entry in BEAT_SCHEDULE.items() if key != name}
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=scheduled)
        assert f"does not run: {BEAT_SCHEDULE[name]['task']}. " in found()["kpwa.W009"].msg

    def test_a_whole_schedule_is_none_and_one_in_a_database_is_trusted(self, celery_settings):
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=beat_schedule(60))
        assert "kpwa.W009" not in found()
        celery_settings(beat_schedule={}, beat_scheduler="django_celery_beat.schedulers:DatabaseScheduler")
        assert "kpwa.W009" not in found()


class TestConnectionsOfWorkers:
    @pytest.fixture(autouse=True)
    def _server(self, celery_settings, monkeypatch):
        self.celery = celery_settings
        self.celery(broker_url="amqp://127.0.0.1:5672//", CELERY_DB_REUSE_MAX=None)
        self.database = lambda name, value: monkeypatch.setitem(connection.settings_dict, name, value)
        if connection.vendor == "sqlite":
            assert "kpwa.W011" not in found()
            pytest.skip("a file needs no connection")

    def test_a_connection_for_every_task_is_a_warning_whatever_its_age(self):
        for age in (0, 60, None):
            self.database("CONN_MAX_AGE", age)
            assert "CELERY_DB_REUSE_MAX = 100" in found()["kpwa.W011"].hint

    def test_connections_that_are_kept_are_none_where_they_may_grow_old(self):
        self.celery(CELERY_DB_REUSE_MAX=100)
        self.database("CONN_MAX_AGE", 60)
        assert "kpwa.W011" not in found()
        self.database("CONN_MAX_AGE", None)
        assert "kpwa.W011" not in found()
        self.database("CONN_MAX_AGE", 0)
        assert "kpwa.W011" in found()

    def test_a_pool_or_no_broker_is_none(self):
        self.database("OPTIONS", {**connection.settings_dict["OPTIONS"], "pool": True})
        assert "kpwa.W011" not in found()
        self.database("OPTIONS", {})
        self.celery(broker_url=None)
        assert "kpwa.W011" not in found()


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://shop.example", True),
        ("shop.example", True),
        ("https://shop.example", False),
        ("", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
    ],
)
def test_a_public_url_that_is_not_https_is_a_warning(kpwa, url, is_warned):
    kpwa(PUBLIC_URL=url)
    assert ("kpwa.W005" in found()) == is_warned


COMMON = "django.middleware.common.CommonMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
BEHIND_PROXY = {"SECURE_SSL_REDIRECT": True, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}


class OwnSecurity(SecurityMiddleware):
    """A site's own middleware that inherits Django's redirect."""


@pytest.mark.parametrize(
    ("url", "middleware", "changed", "warned"),
    [
        ("https://shop.example", [COMMON], {"PREPEND_WWW": True}, {"kpwa.W075"}),
        ("https://www.shop.example", [COMMON], {"PREPEND_WWW": True}, set()),
        ("https://shop.example", [], {"PREPEND_WWW": True}, set()),
        ("https://shop.example", [SECURITY], {"SECURE_SSL_REDIRECT": True}, {"kpwa.W075"}),
        ("https://shop.example", [f"{__name__}.OwnSecurity"], {"SECURE_SSL_REDIRECT": True}, {"kpwa.W075"}),
        ("https://shop.example", [SECURITY], BEHIND_PROXY, set()),
        ("http://shop.example", [SECURITY], BEHIND_PROXY, {"kpwa.W005", "kpwa.W075"}),
        ("https://shop.example", [SECURITY], {**BEHIND_PROXY, "SECURE_REDIRECT_EXEMPT": ["webhooks/"]}, set()),
        ("https://shop.example", [], {"SECURE_SSL_REDIRECT": True}, set()),
        ("https://shop.example", [COMMON, SECURITY], {"APPEND_SLASH": True}, set()),
        ("https://shop.example", [COMMON], {"ALLOWED_HOSTS": ["toko.example"]}, {"kpwa.W076"}),
        ("https://shop.example:8443", [COMMON], {"ALLOWED_HOSTS": [".shop.example"]}, set()),
        ("", [COMMON, SECURITY], {"PREPEND_WWW": True, "SECURE_SSL_REDIRECT": True}, set()),
    ],
)
def test_what_would_redirect_or_refuse_a_webhook_is_a_warning(kpwa, settings, url, middleware, changed, warned):
    kpwa(PUBLIC_URL=url)
    settings.MIDDLEWARE = middleware
    for name, value in changed.items():
        setattr(settings, name, value)
    webhooks = {id_ for id_ in found() if id_ in ("kpwa.W005", "kpwa.W075", "kpwa.W076")}
    assert webhooks == warned


@pytest.mark.parametrize(
    ("changed", "urls", "warned"),
    [
        ({"PUBLIC_URL": "https://toko-senja.id"}, "tests.urls", set()),
        ({"PUBLIC_URL": "https://toko-senja.id"}, "tests.integration.other_admin_urls", {"kpwa.W077"}),
        ({"PUBLIC_URL": ""}, "tests.integration.other_admin_urls", set()),
        ({"PUBLIC_URL": "https://shop.example", "GATEWAY": HTTP}, "tests.urls", {"kpwa.W078"}),
        ({"PUBLIC_URL": "https://shop.example", "BASE_URLS": ["http://127.0.0.1/"]}, "tests.urls", set()),
        (
            {"PUBLIC_URL": "https://example.com", "GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1/"]},
            "tests.urls",
            {"kpwa.W078"},
        ),
        ({"PUBLIC_URL": "http://127.0.0.1:8000", "GATEWAY": HTTP}, "tests.urls", {"kpwa.W078"}),
        (
            {"PUBLIC_URL": "http://127.0.0.1:8000", "GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1/"]},
            "tests.urls",
            set(),
        ),
    ],
)
def test_a_webhook_without_an_address_or_with_a_useless_one_is_a_warning(kpwa, settings, changed, urls, warned):
    kpwa(**changed)
    settings.ROOT_URLCONF = urls
    assert {id_ for id_ in found() if id_ in ("kpwa.W077", "kpwa.W078")} == warned


class OwnHttpGateway(HttpGateway):
    """A site's own subclass of the real gateway."""


@pytest.mark.parametrize(
    ("debug", "changed", "is_warned"),
    [
        (True, {"GATEWAY": HTTP}, True),
        (False, {"GATEWAY": HTTP}, False),
        (True, {"GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:8900/backend"]}, False),
        (True, {"GATEWAY": f"{__name__}.OwnHttpGateway"}, True),
        (True, {}, False),
    ],
)
def test_the_real_gateway_under_debug_is_a_warning(settings, kpwa, debug, changed, is_warned):
    settings.DEBUG = debug
    kpwa(**changed)
    assert ("kpwa.W006" in found()) == is_warned


def found_when_live(databases=()) -> dict[str, checks.CheckMessage]:
    messages = checks.run_checks(tags=["kpwa"], databases=databases, include_deployment_checks=True)
    assert all(message.hint for message in messages)
    return {message.id: message for message in messages if message.id in ("kpwa.W081", "kpwa.W082", "kpwa.W083")}


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"GATEWAY": "django_kpwa.gateway.console.ConsoleGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": "django_kpwa.sandbox.phone.SandboxGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": HTTP}, set()),
        ({"GATEWAY": f"{__name__}.OwnHttpGateway"}, set()),
        ({"GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:8900/backend"]}, {"kpwa.W082"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["https://wa.kpntr.com/backend", "https://[::1]/b"]}, {"kpwa.W082"}),
        ({"GATEWAY": f"{__name__}.OwnHttpGateway", "BASE_URLS": ["http://localhost/b"]}, {"kpwa.W082"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["http://wa.kpntr.com/backend"]}, {"kpwa.W083"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["HTTP://127.evil.example/backend"]}, {"kpwa.W083"}),
    ],
)
def test_a_live_site_that_reaches_nobody_is_a_warning_under_deploy(settings, kpwa, changed, warned):
    kpwa(**changed)
    assert set(found_when_live()) == warned
    assert not set(found()) & {"kpwa.W081", "kpwa.W082", "kpwa.W083"}
    settings.DEBUG = True
    assert set(found_when_live()) == set()


def test_a_call_that_may_outlast_its_task_is_a_warning(kpwa):
    assert "kpwa.W008" not in found()
    kpwa(CALL_DEADLINE_SECONDS=580)
    assert "kpwa.W008" in found()


class TestContentTypes:
    def test_an_outbox_without_them_is_a_warning(self, settings):
        class OutboxAlone:
            def allow_migrate(self, db, app_label, **hints):
                return app_label == "django_kpwa"

        assert "kpwa.W092" not in found()
        settings.DATABASE_ROUTERS = [OutboxAlone()]
        assert "contenttypes" in found()["kpwa.W092"].hint
