"""A receipt's template has its object, whatever the hooks return. If it cannot have it, nothing is sent."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_kpwa import receipts
from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, OutboundMessage, Status
from tests.shop.models import CounterSale, Line, Sale

pytestmark = pytest.mark.django_db

TEXT = "Nota {{ sale.pk }}{{ object.pk }} {{ license.name }} {{ event_id }} {{ kasir }}"


@pytest.fixture
def site(settings, tmp_path):
    """Write the template, and register a class with these attributes for the models."""
    registered = []

    def make(text, *models, **attributes):
        (tmp_path / "struk.txt").write_text(text)
        settings.TEMPLATES = [{"BACKEND": settings.TEMPLATES[0]["BACKEND"], "DIRS": [tmp_path], "OPTIONS": {}}]

        class Struk(receipts.Receipt):
            event = "struk"
            template_name = "struk.txt"

            def should_send(self, sale):
                return True

            def get_phone_number(self, sale):
                return "081234567890"

            def get_occurred_at(self, sale):
                return sale.sold_at

        for name, value in attributes.items():
            setattr(Struk, name, value)
        registered.append(receipts.register(*(models or [Sale]))(Struk))
        return Struk

    yield make
    for receipt_class in registered:
        receipts.unregister(receipt_class)


def sold(license_, model=Sale):
    """Create a sale, drive its message once it is due, and return the message."""
    model.objects.create(status=Sale.Status.OPEN)
    OutboundMessage.objects.update(due_at=DatabaseNow())
    drive(license_.pk)
    return OutboundMessage.objects.get()


def test_a_hook_that_returns_more_alone_keeps_the_object_and_all_that_is_promised(license_, site):
    site(TEXT, get_context_data=lambda self, sale, **context: {"kasir": "Ani"})
    message = sold(license_)
    key = Sale.objects.get().pk
    assert message.text == f"Nota {key}{key} {license_.name} struk Ani"


@pytest.mark.parametrize("returns", [{}, {"kasir": ""}])
def test_a_hook_that_returns_little_keeps_it_too(license_, site, returns):
    site(TEXT, get_context_data=lambda self, sale, **context: returns)
    key = sold(license_) and Sale.objects.get().pk
    assert locmem.outbox[0].text.startswith(f"Nota {key}{key} {license_.name} struk")


def test_what_a_hook_returns_goes_before_what_is_promised(license_, site):
    class Presented:
        pk = "no. 7"

    site(TEXT, get_context_data=lambda self, sale, **context: {"sale": Presented(), "event_id": "lunas"})
    assert sold(license_).text == f"Nota no. 7{Sale.objects.get().pk} {license_.name} lunas"


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (None, "get_context_data() returned NoneType"),
        ([("kasir", "Ani")], "get_context_data() returned list"),
        ({"object": None}, "None as 'object'"),
        ({"sale": None}, "None as 'sale'"),
    ],
)
def test_a_hook_that_takes_the_object_away_is_told_and_nothing_is_sent(license_, site, returns, words):
    site("Nota {{ sale.pk }}", get_context_data=lambda self, sale, **context: returns)
    message = sold(license_)
    assert (message.status, message.text, locmem.outbox) == (Status.FAILED, "", [])
    assert words in message.reason_words


@pytest.mark.parametrize(
    "text",
    [
        "Nota {{ sael.pk }}",
        "{% for line in order.lines.all %}{{ line.name }}{% endfor %}Terima kasih dari {{ license.name }}",
        "{% include 'part.txt' %}",
    ],
)
def test_a_template_that_calls_the_object_what_nobody_does_is_told_and_nothing_is_sent(license_, site, tmp_path, text):
    (tmp_path / "part.txt").write_text("Nota {{ penjualan.pk }}")
    site(text)
    message = sold(license_)
    assert (message.status, locmem.outbox) == (Status.FAILED, [])
    assert "nothing of the object" in message.reason_words


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Terima kasih", "Terima kasih"),
        ("Terima kasih dari {{ license.name }}", "Terima kasih dari Toko"),
        ("{% if promo %}{{ promo.text }}{% endif %}Total {{ total }}", "Total 9"),
        ("{% if promo %}{{ promo.text }}{% endif %}Nota {{ object.status }}", "Nota open"),
        ("{% with s=sale %}{{ s.status }} {{ note|default:'-' }}{% endwith %}", "open -"),
        ("{% include 'part.txt' with s=sale only %}", "open"),
    ],
)
def test_a_template_without_what_only_some_sales_have_is_fine(license_, site, tmp_path, text, says):
    (tmp_path / "part.txt").write_text("{{ s.status }}{{ note }}")
    site(text, get_context_data=lambda self, sale, **context: {"total": 9})
    assert sold(license_).text.startswith(says)


def test_a_template_for_a_model_serves_its_proxies(license_, site):
    site("Nota {{ sale.pk }}{{ countersale.pk }}", CounterSale)
    message = sold(license_, CounterSale)
    key = Sale.objects.get().pk
    assert message.text == f"Nota {key}{key}"


def test_a_class_for_two_models_that_share_no_name_fails_where_its_template_knows_one(license_, site):
    site("Nota {{ sale.pk }}", Sale, Line, get_occurred_at=lambda self, obj: None, max_age=None)
    Line.objects.create(sale=Sale.objects.create(), name="Kopi", price=1)
    OutboundMessage.objects.update(due_at=DatabaseNow())
    drive(license_.pk)
    assert sorted(OutboundMessage.objects.values_list("status", flat=True)) == ["failed", "sent"]


@pytest.mark.parametrize("method", ["get_context_data", "render", "should_send", "get_phone_number", "get_license"])
def test_a_method_that_cannot_be_called_as_it_will_be_is_refused_at_the_start(site, method):
    with pytest.raises(ImproperlyConfigured, match=rf"Struk\.{method}\(\) cannot be called with the object"):
        site("", **{method: lambda self: True})


def test_so_are_candidates_without_a_time(site):
    with pytest.raises(ImproperlyConfigured, match=r"get_candidates\(\) cannot be called with since and until"):
        site("", get_candidates=lambda self: Sale.objects.all())


@pytest.mark.parametrize("method", ["get_context_data", "render"])
def test_so_is_a_hook_that_leaves_out_the_context(site, method):
    with pytest.raises(ImproperlyConfigured, match=r"it must take \*\*context"):
        site("", **{method: lambda self, sale: {}})


async def later(self, obj, **context):
    return False


@pytest.mark.parametrize("method", ["should_send", "get_phone_number", "get_occurred_at", "render"])
def test_so_is_one_that_nobody_would_wait_for(site, method):
    with pytest.raises(ImproperlyConfigured, match=rf"Struk\.{method}\(\) is asynchronous"):
        site("", **{method: later})
