"""A receipt whose text is written long after it was queued says so in its first line, as the site configures it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import engines
from django.utils import timezone

from django_kpwa.formatting import date_and_time, sentence
from django_kpwa.models import Lane, OutboundMessage, Status
from django_kpwa.receipts.plain_text import take_late_notice
from django_kpwa.validation import MAX_TEXT_LENGTH
from tests.shop.models import Sale

from .test_receipts import PAID, Notice, drive_now, sent_texts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]


def sold(minutes_ago):
    """Queue a sale's receipts that many minutes ago. Return that time as people read it."""
    Sale.objects.create(**PAID)
    queued_at = timezone.now() - timedelta(minutes=minutes_ago)
    OutboundMessage.objects.update(created_at=queued_at)
    return date_and_time(queued_at)


def text_of(receipt_class):
    drive_now()
    return OutboundMessage.objects.get(renderer__endswith=receipt_class.__name__).text


def rendered(template):
    return engines["django"].from_string("{% load kpwa %}" + template).render()


def test_a_late_receipt_begins_with_a_line_that_says_so():
    at = sold(31)
    [text] = sent_texts()
    line, blank, struk = text.split("\n")[:3]
    assert line == sentence(f"Sorry, this message comes late. It was to be sent on {at}.")
    assert (blank, struk) == ("", f"Struk {Sale.objects.get().pk}")


def test_a_receipt_within_half_an_hour_says_nothing_of_it():
    sold(29)
    [text] = sent_texts()
    assert text.startswith("Struk")


def test_it_is_said_in_the_receipts_language(register):
    @register
    class Indonesian(Notice):
        event, language = "in Indonesian", "id"

    sold(45)
    assert text_of(Indonesian).startswith("Maaf, pesan ini terlambat. Seharusnya terkirim ")


def test_a_site_says_it_in_its_own_words_or_not_at_all(register):
    @register
    class Own(Notice):
        event = "own"

        def get_late_notice(self, sale, queued_at):
            return f"Terlambat sejak {queued_at:%Y}"

    @register
    class Silent(Notice):
        event = "silent"

        def get_late_notice(self, sale, queued_at):
            return ""

    sold(45)
    assert text_of(Own).startswith(f"Terlambat sejak {timezone.now():%Y}\n\nCatatan ")
    assert text_of(Silent).startswith("Catatan ")


@pytest.mark.parametrize("minutes_ago", [0, 45])
def test_a_template_gives_it_another_place(register, minutes_ago):
    @register
    class Placed(Notice):
        event = "placed"

        def render(self, sale, **context):
            return rendered("Struk|{% kpwa_late_notice %}|Terima kasih")

        def get_late_notice(self, sale, queued_at):
            return "<Maaf & salam>"

    sold(minutes_ago)
    begins, line, ends = text_of(Placed).split("|")
    assert (begins, ends) == ("Struk", "Terima kasih")
    assert bool(line) == bool(minutes_ago)


def test_a_text_of_the_greatest_length_goes_out_without_it(register):
    @register
    class Long(Notice):
        event = "long"

        def render(self, sale, **context):
            return "x" * MAX_TEXT_LENGTH

    sold(45)
    assert set(text_of(Long)) == {"x"}


def test_an_empty_text_is_no_receipt_because_it_is_late(register):
    @register
    class Empty(Notice):
        event = "empty"

        def render(self, sale, **context):
            return " "

    sold(45)
    drive_now()
    message = OutboundMessage.objects.get(renderer__endswith="Empty")
    assert (message.status, message.reason) == (Status.FAILED, "render_error")


def test_what_was_put_off_for_the_night_says_in_the_morning_that_it_is_late(kpwa):
    now = timezone.localtime()
    hours = (now - timedelta(hours=2), now + timedelta(hours=2))
    kpwa(QUIET_HOURS=tuple(f"{at:%H:%M}" for at in hours))
    sold(45)
    assert sent_texts() == []
    message = OutboundMessage.objects.get()
    assert message.is_put_off
    assert (message.text, message.renderings_begun) == ("", 0)
    kpwa(QUIET_HOURS=None)
    Lane.objects.update(next_send_at=None)
    [text] = sent_texts()
    assert text.startswith("Sorry, this message comes late.")


def test_outside_a_late_text_the_tag_says_nothing():
    assert rendered("a{% kpwa_late_notice %}b") == "ab"
    assert take_late_notice() == ""


def test_a_notice_that_cannot_be_called_is_refused(register):
    class Wrong(Notice):
        event = "wrong"

        def get_late_notice(self, sale):
            return ""

    with pytest.raises(ImproperlyConfigured, match=r"get_late_notice.* cannot be called with the object and when it"):
        register(Wrong)
