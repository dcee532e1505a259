"""A receipt's key: unique for each object and event, and the event can be read from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa import receipts
from django_kpwa.receipts.base import Registration
from django_kpwa.receipts.identity import event_id_of, key_of
from tests.shop.models import Invoice


class Notice(receipts.Receipt):
    """A receipt whose event id is the invoice's `customer_phone`, so that tests can choose it."""

    def get_event_id(self, invoice):
        return invoice.customer_phone


def key(number: str, event_id: str, using: str = "default") -> str:
    invoice = Invoice(number=number, customer_phone=event_id)
    return key_of(Registration(Invoice, Notice(), "shop.invoice.Notice"), invoice, using)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a:b", "c"), ("a", "b:c")),
        (("a", "b"), ("a%3Ab", "")),
        (("a:", "b"), ("a", ":b")),
        (("a%3A", "b"), ("a:", "b")),
        (("a%", "b"), ("a%25", "b")),
        (("a" * 255, "b"), ("a" * 254, "b")),
        ((":" * 200, "b"), (":" * 199, "b")),
    ],
)
def test_no_two_receipts_have_one_key(one, other):
    assert key(one[0], one[1] or "x") != key(other[0], other[1] or "x")


parts = st.text(st.sampled_from("ab:%3A25~@"), min_size=1, max_size=90)


@given(parts, parts, parts, parts, st.sampled_from(["default", "a", "a:b", "@"]), st.sampled_from(["default", "a"]))
def test_a_key_means_one_receipt_and_tells_its_event(number, event_id, other_number, other_event_id, using, other):
    made = key(number, event_id, using)
    assert event_id_of(made) == event_id
    is_same = (number, event_id, using) == (other_number, other_event_id, other)
    assert (made == key(other_number, other_event_id, other)) is is_same
