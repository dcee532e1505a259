"""The license's page, the lists, the dashboard, the banner and a chip show the same condition of a license."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import product
from operator import ne

import pytest
from django.contrib.auth import get_user_model
from django.template import engines
from django.test import RequestFactory
from django.utils import timezone
from django.utils.html import escape

from django_kpwa import outbox
from django_kpwa.gateway import SessionStatus
from django_kpwa.license_conditions import license_condition
from django_kpwa.models import Heartbeat, Lane, License, OutboundMessage, PauseReason
from django_kpwa.words import INACTIVE, Tone
from tests.shop.models import Sale

ADMIN = "/admin/django_kpwa"
MARK = r'<span class="kpwa-mark kpwa-(\w+)[^"]*"><span aria-hidden="true">[^<]*</span> ([^<]*)</span>'
PROMISES = ("goes out in", "Sending now", "is due at", "is sent automatically", "Receipts are going out.")
NOW, EARLIER = timedelta(), timedelta(hours=3)
STATES = [
    # None: the status has never been requested
    *product((*SessionStatus, None), ("with a key", "with a new key", "without a key"), ("active",), (NOW,)),
    *product(SessionStatus, ("with a key",), ("active",), (EARLIER,)),
    *product((SessionStatus.CONNECTED, None), ("with a key",), ("inactive",), (NOW,)),
]
USUAL = (SessionStatus.CONNECTED, "with a key", "active", NOW)
ONE_THING_DIFFERS = [state for state in STATES if sum(map(ne, state, USUAL)) <= 1]
SEVERAL_DIFFER = [state for state in STATES if state not in ONE_THING_DIFFERS]


@pytest.fixture
def waiting(operator, license_):
    Heartbeat.objects.note("sweep")
    sale = Sale.objects.create()
    return sale, outbox.send_message("081234567890", "Struk 7", source=sale, license=license_)


def become(license_, reason, session, key, activity, ago):
    now = timezone.now()
    License.objects.filter(pk=license_.pk).update(
        is_active=activity == "active", api_key_version=2 if key == "with a new key" else 1
    )
    if key == "without a key":
        License.objects.filter(pk=license_.pk).update(api_key_ciphertext="")
    else:
        license_.set_api_key("test-api-key-0001")
        License.objects.filter(pk=license_.pk).update(api_key_ciphertext=license_.api_key_ciphertext)
    is_refused = reason == PauseReason.UNAUTHORIZED
    Lane.objects.filter(license=license_).delete()
    Lane.objects.create(
        license=license_,
        session_status=session or SessionStatus.UNKNOWN,
        session_seen_at=now - ago if session else None,
        linked_number="628110000001" if session == SessionStatus.CONNECTED else "",
        confirmed_number="628110000002" if reason == PauseReason.NUMBER_CHANGED else "",
        pause_reason=reason,
        paused_at=now if reason else None,
        paused_key_version=1 if is_refused else None,
    )


def marks_in(page, after):
    """The tone and the words of the first mark after the given text of the page."""
    found = re.search(MARK, page[page.index(after) :])
    assert found, f"no mark after {after}"
    return found.groups()


def till(sale):
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username="boss")
    page = engines["django"].from_string("{% load kpwa_counter %}{% kpwa_banner %}<hr>{% kpwa_chip sale %}")
    banner, _, chip = page.render({"sale": sale}, request).partition("<hr>")
    return (" ".join(re.sub(r"<[^>]*>", " ", part).split()) for part in (banner, chip))


@pytest.mark.parametrize("reason", PauseReason, ids=str)
def test_every_screen_tells_the_same(operator, license_, waiting, reason):
    look_at_every_screen(operator, license_, waiting, reason, ONE_THING_DIFFERS)


@pytest.mark.slow
@pytest.mark.parametrize("reason", PauseReason, ids=str)
def test_every_screen_tells_the_same_where_several_things_differ(operator, license_, waiting, reason):
    look_at_every_screen(operator, license_, waiting, reason, SEVERAL_DIFFER)


def look_at_every_screen(operator, license_, waiting, reason, states):
    sale, message = waiting
    for state in states:
        become(license_, reason, *state)
        looked = License.objects.select_related("lane").get(pk=license_.pk)
        condition = license_condition(looked, timezone.now())
        expected = (condition.tone.value, escape(condition.label))
        sends = condition.tone not in (Tone.BAD, Tone.ATTENTION) and condition is not INACTIVE
        own = operator.get(f"{ADMIN}/license/{license_.pk}/change/").content.decode()
        listed = operator.get(f"{ADMIN}/license/").content.decode()
        dashboard = operator.get(f"{ADMIN}/dashboard/").content.decode()
        of_message = operator.get(f"{ADMIN}/outboundmessage/{message.pk}/change/").content.decode()
        banner, chip = till(sale)
        about = f"{reason}, {state}: {condition.label}"

        assert marks_in(own, 'class="kpwa-says"') == expected, about
        assert marks_in(listed, 'class="field-condition"') == expected, about
        assert marks_in(dashboard, f'id="kpwa-license-{license_.pk}"') == expected, about
        assert (f"The license {license_.name}: {condition.label}" in chip) is not sends, about
        assert ("its license does not send now" in of_message) is not sends, about
        if not sends:
            assert not [words for words in PROMISES if words in dashboard + of_message], about
            assert banner, about
    assert OutboundMessage.objects.get().status == "queued"
