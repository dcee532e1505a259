"""Which classes may be registered as receipts, and which are refused when the site starts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.exceptions import ImproperlyConfigured
from django.db.models import CompositePrimaryKey
from django.db.models.signals import post_save

from django_kpwa import receipts
from tests.shop.models import CounterSale, Line, Sale


class Notice(receipts.Receipt):
    event = "notice"
    max_age = None

    def should_send(self, line):
        return True

    def get_phone_number(self, line):
        return ""

    def render(self, line, **context):
        return line.name


def variant(**attributes):
    return type("Variant", (Notice,), attributes)


def test_one_class_may_serve_several_models_and_be_taken_back():
    receipts.register(Sale, Line)(Notice)
    labels = [found.label for found in receipts.registry.registrations() if found.receipt.__class__ is Notice]
    receipts.unregister(Notice)
    assert labels == ["shop.sale.Notice", "shop.line.Notice"]
    assert receipts.registry.find("shop.line.Notice") is None
    assert not post_save.has_listeners(Line)
    assert post_save.has_listeners(Sale)
    with pytest.raises(LookupError, match="Notice is not a registered receipt"):
        receipts.unregister(Notice)


@pytest.mark.parametrize(
    ("receipt_class", "words"),
    [
        (object, "is not a subclass of"),
        (type("Bare", (receipts.Receipt,), {"template_name": "a.txt"}), r"Bare must define should_send\(\)"),
        (
            type("Half", (receipts.Receipt,), {"template_name": "a.txt", "should_send": lambda self, obj: True}),
            r"Half must define get_phone_number\(\)",
        ),
        (variant(render=receipts.Receipt.render), "must name its template"),
        (variant(phone_number_field="phone"), "phone_number_field is 'phone', and Sale has no such field"),
        (variant(occurred_at_field=5), "occurred_at_field is 5, and Sale has no such field"),
        (
            variant(max_age=timedelta(days=2)),
            r"define get_occurred_at\(\).* or set max_age = None to send for objects of any age",
        ),
        (variant(max_age=2), "max_age must be a positive timedelta or None, not 2"),
        (variant(expires_after=timedelta(0)), "expires_after must be a positive timedelta"),
        (variant(language="xx-klingon"), "language is 'xx-klingon'"),
        (type("V" * 200, (Notice,), {}), "longer than 190"),
        (variant(event=" \u200b"), r"event must be a visible string, not ' \\u200b'"),
        (variant(event=5), "event must be a visible string, not 5"),
        (variant(event="paid"), "PaidReceipt both have the event 'paid'"),
        (type("PaidReceipt", (Notice,), {}), r"registered already, by tests\.shop\.whatsapp"),
    ],
)
def test_a_class_that_could_not_work_is_refused_with_the_reason(receipt_class, words):
    before = receipts.registry.registrations()
    with pytest.raises(ImproperlyConfigured, match=words):
        receipts.register(Sale)(receipt_class)
    assert receipts.registry.registrations() == before


def test_a_class_may_name_its_fields_in_place_of_methods():
    class Named(receipts.Receipt):
        template_name = "a.txt"
        phone_number_field = "customer_phone"
        occurred_at_field = "sold_at"

    receipts.register(Sale)(Named)
    receipts.unregister(Named)
    paid, is_open = Sale(customer_phone="0812 3456 7890"), Sale(sold_at=None)
    asked = Named()
    assert (asked.should_send(paid), asked.should_send(is_open)) == (True, False)
    assert (asked.get_phone_number(paid), asked.get_occurred_at(paid)) == ("0812 3456 7890", paid.sold_at)


def test_what_is_no_concrete_model_is_refused():
    with pytest.raises(ImproperlyConfigured, match="needs a model"):
        receipts.register()
    with pytest.raises(ImproperlyConfigured, match="takes model classes"):
        receipts.register(Notice)
    with pytest.raises(ImproperlyConfigured, match="is abstract"):
        receipts.register(AbstractBaseSession)


def test_a_model_with_a_composite_key_is_refused(monkeypatch):
    monkeypatch.setattr(Line._meta, "pk", CompositePrimaryKey("sale_id", "id"))
    with pytest.raises(ImproperlyConfigured, match="composite primary key"):
        receipts.register(Line)


def test_blank_lines_that_template_tags_leave_become_one(tmp_path, settings):
    (tmp_path / "gaps.txt").write_bytes(b"\n\n{% if 1 %}\r\nSatu\r\n\r\n \r\n\r\n  Dua\r\n{% endif %}\n\n")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    assert variant(render=receipts.Receipt.render, template_name="gaps.txt")().render(Sale()) == "Satu\n\n  Dua"


def test_classes_of_a_model_and_its_proxy_do_not_share_an_event():
    class CounterNotice(Notice):
        event = "paid"
        get_event_id = receipts.Receipt.get_event_id

    with pytest.raises(ImproperlyConfigured, match="PaidReceipt both have the event 'paid': a CounterSale would get"):
        receipts.register(CounterSale)(CounterNotice)
    CounterNotice.event = "counter"
    receipts.register(CounterSale)(CounterNotice)
    receipts.unregister(CounterNotice)
