"""Rings up sales, waits for their receipts on the phone, and compares the phone's ledger with the outbox.

    python -m example_project.demo.sales_run --sales 25 --timeout 145

It runs as a separate process, like a shop's web server: it saves sales and does nothing else about WhatsApp. The exit
code is 0 only if every receipt arrived exactly once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import django

from .report import UNSETTLED_STATUSES, Delivery, Fate, Report
from .till_export import PlannedSale, made_up_sales, sales_of_export

if TYPE_CHECKING:
    from example_project.sales.models import Sale

SECONDS_BETWEEN_SALES = 0.35
"""As in a busy shop with many tills, but no faster than one WhatsApp account can send at the demo's pace."""
_LOOK_SECONDS = 0.05
_IDS_PER_QUERY = 500


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    django.setup()
    planned = sales_of_export(options.csv, options.day) if options.csv else made_up_sales(options.sales)
    seconds = options.timeout or 120 + len(planned)
    print(
        f"Ringing up {len(planned)} sales. How long each receipt took from the sale's save to the phone:\n", flush=True
    )
    report = SalesRun(planned, PhoneLedger(_sandbox_url())).run(seconds)
    print("", *report.lines(), sep="\n", flush=True)
    return 0 if report.is_good else 1


class PhoneLedger:
    """The messages that the phone accepted, read over HTTP and kept here: a restarted phone forgets them."""

    def __init__(self, sandbox_url: str) -> None:
        self._address = f"{sandbox_url}/sandbox/api/ledger"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._deliveries: dict[str, Delivery] = {}
        self._seen = 0

    def new_deliveries(self) -> list[Delivery]:
        """Return the messages since the last call; none if the phone does not answer."""
        try:
            with self._opener.open(f"{self._address}?after={self._seen}", timeout=5) as answer:
                entries = json.load(answer)["deliveries"]
        except OSError:
            self._seen = 0
            return []
        fresh = [_delivery(entry) for entry in entries if entry["id"] not in self._deliveries]
        self._seen += len(entries)
        self._deliveries.update((delivery.id, delivery) for delivery in fresh)
        return fresh

    def all_deliveries(self) -> list[Delivery]:
        self.new_deliveries()
        return list(self._deliveries.values())


class SalesRun:
    """One round of sales. Prints each receipt as it reaches the phone."""

    def __init__(self, planned: Sequence[PlannedSale], ledger: PhoneLedger) -> None:
        self._planned = list(planned)
        self._ledger = ledger
        self._fates: dict[str, Fate] = {}
        """By the sale's primary key as text, which is how messages refer to their source."""

    def run(self, seconds: float) -> Report:
        """Ring up all sales, and wait until all receipts are settled, or `seconds` have passed."""
        gives_up_at = time.monotonic() + seconds
        next_sale_at = time.monotonic()
        waiting = iter(self._planned)
        is_rung_up = False
        while time.monotonic() < gives_up_at:
            if not is_rung_up and time.monotonic() >= next_sale_at:
                planned = next(waiting, None)
                is_rung_up = planned is None
                if planned is not None:
                    self._ring_up(planned)
                    next_sale_at += SECONDS_BETWEEN_SALES
            self._print_arrivals()
            if is_rung_up and self._is_settled():
                break
            time.sleep(_LOOK_SECONDS)
        self._print_arrivals()
        return self._report()

    def _ring_up(self, planned: PlannedSale) -> None:
        from django.utils import timezone

        from example_project.sales import till

        began_at = timezone.now()
        sale = till.ring_up(
            [till.Item(*item) for item in planned.items],
            customer_phone=planned.customer_phone,
            customer_name=planned.customer_name,
        )
        self._fates[str(sale.pk)] = Fate(_label(sale, planned), began_at)

    def _print_arrivals(self) -> None:
        for delivery in self._ledger.new_deliveries():
            fate = self._fates.get(_source_of(delivery))
            if fate is None:
                continue
            fate.deliveries.append(delivery)
            print(f"  {fate.label}  {fate.milliseconds:>8,.0f} ms", flush=True)

    def _is_settled(self) -> bool:
        return not any(row["status"] in UNSETTLED_STATUSES for row in self._messages())

    def _report(self) -> Report:
        for row in self._messages():
            fate = self._fates[row["source_id"]]
            fate.status = row["status"]
            fate.reason = ": ".join(words for words in (row["reason"], row["reason_words"]) if words)
        strangers = [delivery for delivery in self._ledger.all_deliveries() if not _source_of(delivery)]
        fates = list(self._fates.values())
        return Report(fates, strangers, len(self._planned) - len(fates), _hindrances(fates))

    def _messages(self) -> list[dict[str, str]]:
        from django.contrib.contenttypes.models import ContentType

        from django_kpwa.models import OutboundMessage
        from example_project.sales.models import Sale

        keys = list(self._fates)
        messages = OutboundMessage.objects.filter(source_content_type=ContentType.objects.get_for_model(Sale))
        return [
            row
            for start in range(0, len(keys), _IDS_PER_QUERY)
            for row in messages.filter(source_id__in=keys[start : start + _IDS_PER_QUERY]).values(
                "source_id", "status", "reason", "reason_words"
            )
        ]


def _hindrances(fates: Sequence[Fate]) -> list[str]:
    """Return why receipts are still waiting or were never queued, according to the app itself."""
    from django_kpwa.models import Lane, ReceiptFailure

    hindrances = []
    if any(fate.status in UNSETTLED_STATUSES for fate in fates):
        for lane in Lane.objects.select_related("license").exclude(pause_reason=""):
            hindrances.append(f"{lane.license.name} is paused: {lane.pause_reason} {lane.pause_words}".rstrip())
    if any(not fate.status for fate in fates):
        failure = ReceiptFailure.objects.order_by("pk").last()
        if failure is not None:
            hindrances.append(f"A receipt class raised: {failure.error}")
    return hindrances


def _source_of(delivery: Delivery) -> str:
    """Return the primary key of the sale whose receipt this is.

    The message is found by the gateway's id, or by number and text if the worker died before it stored the id. The
    result is empty if the outbox has no such message, and `other` if the message is about something else.
    """
    from django_kpwa.models import OutboundMessage

    messages = OutboundMessage.objects.values_list("source_id", flat=True)
    for named in ({"attempts__gateway_id": delivery.id}, {"recipient": delivery.recipient, "text": delivery.text}):
        source_id = messages.filter(**named).first()
        if source_id is not None:
            return source_id or "other"
    return ""


def _label(sale: Sale, planned: PlannedSale) -> str:
    from django_kpwa.phone import mask

    count = sum(quantity for _name, _price, quantity in planned.items)
    amount = f"{sale.total:,}".replace(",", ".")
    own_label = f"{planned.label}  " if planned.label else ""
    return f"{sale.number}  {own_label}{mask(sale.customer_phone)}  {count:>2} items  Rp {amount:>9}"


def _delivery(entry: dict[str, str]) -> Delivery:
    accepted_at = datetime.fromisoformat(entry["accepted_at"])
    return Delivery(entry["id"], entry["recipient"], entry["text"], accepted_at)


def _sandbox_url() -> str:
    from django.conf import settings

    return str(settings.SANDBOX_URL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sales_run")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--sales", type=int)
    chosen.add_argument("--csv", type=Path)
    parser.add_argument("--day", default="")
    parser.add_argument("--timeout", type=float, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
