"""The demo's verdict, and the sales that it generates or reads from a till's export."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from django_kpwa.phone import parse
from example_project.demo.report import Delivery, Fate, Report, percentile
from example_project.demo.till_export import TillExportError, made_up_sales, phone_of, price_of, sales_of_export

RUNG_UP_AT = datetime(2026, 11, 5, 9, 0, tzinfo=timezone.utc)


def a_delivery(seconds=0.25, number=1):
    return Delivery(f"ID{number}", "6281200000001", "Struk", RUNG_UP_AT + timedelta(seconds=seconds))


def a_fate(status="sent", deliveries=1, reason=""):
    return Fate("KS-000001", RUNG_UP_AT, status, reason, [a_delivery(number=number) for number in range(deliveries)])


@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
def test_receipts_that_are_sent_and_on_the_phone_once_are_a_good_end(status):
    report = Report([a_fate(status), a_fate(status)], [])

    assert report.is_good
    assert report.lines()[-1] == "✔ 2 of 2 receipts arrived, once each: the phone's ledger and the outbox agree."


@pytest.mark.parametrize(
    ("fate", "words", "disagrees"),
    [
        (a_fate("sent", deliveries=2), "CAME TWICE: 1", True),
        (a_fate("sent", deliveries=0), "LOST", True),
        (a_fate("failed", deliveries=1, reason="refused"), "though the outbox says otherwise: 1", True),
        (a_fate("unknown", deliveries=1, reason="worker_lost"), "In doubt", False),
        (a_fate("unknown", deliveries=0, reason="timeout"), "In doubt", False),
        (a_fate("unknown", deliveries=2), "CAME TWICE: 1", True),
        (a_fate("queued", deliveries=0), "Not sent: 1", False),
        (a_fate("sending", deliveries=1), "not yet recorded in the outbox: 1", False),
        (a_fate("failed", deliveries=0, reason="refused"), "failed (refused), not on the phone", False),
        (a_fate("", deliveries=0), "Without any message in the outbox: 1", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_other_end_is_named_and_is_not_good(fate, words, disagrees):
    report = Report([a_fate(), fate], [])
    text = "\n".join(report.lines())

    assert not report.is_good
    assert words in text
    assert "✘ 1 of 2 receipts arrived" in text
    assert ("DISAGREE" in text) is disagrees
    assert ("None was lost and none came twice" in text) is not disagrees


def test_what_the_phone_got_without_the_outbox_knowing_of_it_is_not_good():
    report = Report([a_fate()], [a_delivery(number=9)])

    assert not report.is_good
    assert "DISAGREE" in report.lines()[-1]


def test_sales_that_time_ran_out_for_are_not_good():
    assert not Report([a_fate()], [], not_rung_up=2).is_good


def test_percentiles_are_values_that_were_measured():
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile([1, 2, 3, 4], 95) == 4
    assert percentile([7], 95) == 7


def test_made_up_sales_are_reproducible_with_valid_numbers():
    assert made_up_sales(30) == made_up_sales(30)
    assert len({sale.customer_phone for sale in made_up_sales(200)}) == 200
    assert parse(phone_of(1)).startswith("62812")
    assert price_of("Coffee") == price_of("Coffee")


def test_an_export_gives_the_sales_of_a_day_without_the_tills_own_rows(tmp_path):
    export = tmp_path / "till.csv"
    export.write_text(
        "date,time,sale,item\n"
        "2016-11-05,09:58:11,420,Coffee\n2016-11-05,09:58:11,420,Coffee\n2016-11-05,09:58:11,420,Bread\n"
        "2016-11-05,10:00:00,421,NONE\n2016-11-05,10:01:00,422,Adjustment\n2016-11-06,08:00:00,423,Tea\n"
    )
    (sale,) = sales_of_export(export, "2016-11-05")

    assert sale.items == (("Coffee", price_of("Coffee"), 2), ("Bread", price_of("Bread"), 1))
    assert (sale.label, sale.customer_phone) == ("2016-11-05 09:58  #420", phone_of(420))
    assert len(sales_of_export(export)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("date,sale,item\n", "no column time"),
        ("date,time,sale,item\n", "has no sales"),
        ("date,time,sale,item\n2016-11-05,09:58:11,x,Tea\n", "line 2"),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_the_reason(tmp_path, content, words):
    export = tmp_path / "till.csv"
    export.write_text(content)

    with pytest.raises(TillExportError, match=words):
        sales_of_export(export)
