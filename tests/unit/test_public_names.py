"""What a site may rely on: these names, and no others. They are those that the reference has, one by one.

Whoever takes a name away from here breaks a site: see `docs/upgrading.md`. Whoever adds one promises it.
"""

from __future__ import annotations

import inspect
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest
from celery import current_app
from django.dispatch import Signal
from django.template import Library

from django_kpwa import exceptions, pytest_plugin, signals, testing
from django_kpwa.cli import SUBCOMMANDS
from django_kpwa.templatetags import kpwa, kpwa_counter

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLIC = {
    "django_kpwa.admin": "KpwaMessagesInline",
    "django_kpwa.exceptions": """
        AnsweredError BadRequestError ConnectionLostError GatewayError GatewayTimeoutError InvalidApiKeyError
        InvalidImageUrlError InvalidMessageError InvalidPhoneNumberError KeyForAnotherUrlError
        KeyUnreadableError KnownReceiptError KpwaError LicenseChoiceError NotConnectedError RateLimitedError
        RecipientForgottenError RecipientStoppedError RolledBackError ServerError TaskFailedError
        TransactionLostError TurnedAwayError UnauthorizedError UnexpectedAnswerError WebhookAddressError
    """,
    "django_kpwa.gateway": """
        Gateway LoginQr NumberCheck SentMessage ServiceStatus SessionStatus SessionTrouble WebhookAnswer
        require_content
    """,
    "django_kpwa.gateway.console": "ConsoleGateway",
    "django_kpwa.gateway.http": "ApiGateway HttpGateway",
    "django_kpwa.gateway.locmem": "LocmemGateway",
    "django_kpwa.license_actions": """
        check_number check_status confirm_number end_restriction get_login_qr pause reset_webhook restart
        resume set_webhook
    """,
    "django_kpwa.models": """
        Alert EventKind EventStatus HoldReason HourlyStatistic License OutboundMessage OutboundMessageQuerySet
        Priority ReceiptFailure Recipient SendAttempt Status WebhookEvent
    """,
    "django_kpwa.outbox": """
        Message arrived_elsewhere asks_again cancel choose_license dismiss mark_sent resend send_group_message
        send_message send_messages send_now send_to_another_number
    """,
    "django_kpwa.phone": "mask mask_numbers parse typed written",
    "django_kpwa.receipts": "Receipt register send_now unregister",
    "django_kpwa.schedule": "beat_schedule",
    "django_kpwa.shop_counter": "messages_about prefetch_messages",
    "django_kpwa.signals": """
        alert_closed alert_opened license_status_changed message_cancelled message_delivered message_expired
        message_failed message_read message_received message_sent message_undelivered message_unknown
        webhook_received
    """,
    "django_kpwa.templatetags.kpwa": """
        kpwa_late_notice rupiah struk_center struk_line struk_rule wa_bold wa_escape wa_italic wa_monospace
        wa_strike
    """,
    "django_kpwa.templatetags.kpwa_counter": "kpwa_banner kpwa_chip kpwa_prefetch",
    "django_kpwa.testing": """
        GatewayContract HttpGatewayContract LocmemMessage clear create_license deliver fail_next link outbox
        post_webhook reach_outside set_unregistered unlink
    """,
    "django_kpwa.webhooks": "DefaultParser ParsedEvent Parser",
    "django_kpwa.webhooks.parsers": "DeliveryState",
}
TASKS = "dispatch_due dispatch_license look_for_missing process_due_webhooks process_webhook purge roll_up_statistics"
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names.split()]


def public_in(module: str) -> set[str]:
    return set(PUBLIC[module].split())


def test_the_reference_has_the_public_names_and_only_those():
    documented = runpy.run_path(str(ROOT / "docs/names.py"))["documented_names"]()
    assert documented == {f"{module}.{name}" for module, name in NAMES}


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_public_name_can_be_imported_and_says_what_it_is(module, name):
    named = getattr(import_module(module), name)
    if inspect.isroutine(named) or inspect.isclass(named):
        said = inspect.getdoc(named) or ""
        # What Django and dataclasses write by themselves is the signature again.
        assert said, f"{name} says nothing"
        assert not said.startswith(f"{name}("), f"{name} says nothing"


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_that_lists_its_names_lists_the_public_ones(module):
    listed = getattr(import_module(module), "__all__", None)
    assert listed is None or public_in(module) <= set(listed)


def test_where_all_is_public_all_is_listed():
    assert public_in("django_kpwa.testing") == set(testing.__all__)
    assert public_in("django_kpwa.signals") == {name for name, value in vars(signals).items() if type(value) is Signal}
    defined = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }
    assert public_in("django_kpwa.exceptions") == defined
    for module in (kpwa, kpwa_counter):
        library: Library = module.register
        assert public_in(module.__name__) == {*library.filters, *library.tags}


def test_the_reference_has_every_fixture_and_only_those():
    documented = re.findall(r"^\| `(kpwa_\w+)` \|", (ROOT / "docs/reference/testing.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(name for name in vars(pytest_plugin) if name.startswith("kpwa_"))


def test_every_subcommand_stands_in_the_docs():
    page = (ROOT / "docs/command-line.md").read_text()
    assert [name for name in SUBCOMMANDS if f"`{name}" not in page] == []


def test_the_names_of_tasks_are_those_that_sites_route_by():
    import_module("django_kpwa.tasks")
    named = {name.removeprefix("django_kpwa.") for name in current_app.tasks if name.startswith("django_kpwa.")}
    assert named == set(TASKS.split())
