"""Sales to ring up: generated, or from a till's export.

An export is CSV with the columns `date,time,sale,item` and one row per item; the rows of a sale are consecutive. It
has no phone numbers and prices: they are derived from the sale's number and the item's name, the same each time.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from example_project.sales.catalogue import MENU

COLUMNS = ("date", "time", "sale", "item")
# Items of rows that are not sold products, but the till's own entries.
_NOT_ITEMS = ("NONE", "Adjustment", "")
_CUSTOMERS = ("Ayu", "Budi", "Citra", "Dewi", "Eko", "Fitri", "Gilang", "Hana", "Indra", "Joko", "Kartika", "Lestari")


class TillExportError(Exception):
    """The file cannot be read as a till's export; the message says why."""


@dataclass(frozen=True)
class PlannedSale:
    """A sale to ring up. `items`: name, price and quantity. `label`: the report's name for a sale from an export."""

    items: tuple[tuple[str, int, int], ...]
    customer_phone: str
    customer_name: str = ""
    label: str = ""


def made_up_sales(count: int) -> list[PlannedSale]:
    """Return `count` sales from the sample menu, each with one to four different items."""
    return [_made_up_sale(number) for number in range(1, count + 1)]


def sales_of_export(path: Path, day: str = "") -> list[PlannedSale]:
    """Return the sales of a till's export in its order; only those of `day` (`2016-11-05`) if it is given.

    Raises `TillExportError`.
    """
    items: dict[tuple[str, str], list[str]] = {}
    labels: dict[tuple[str, str], str] = {}
    for row in _rows(path):
        if (day and row["date"] != day) or row["item"] in _NOT_ITEMS:
            continue
        key = (row["date"], row["sale"])
        items.setdefault(key, []).append(row["item"])
        labels.setdefault(key, f"{row['date']} {row['time'][:5]}  #{row['sale']}")
    if not items:
        raise TillExportError(f"{path} has no sales{f' on {day}' if day else ''}.")
    return [
        PlannedSale(_priced(names), phone_of(int(sale)), label=labels[date, sale])
        for (date, sale), names in items.items()
    ]


def phone_of(number: int) -> str:
    """Return a made-up mobile number for a sale's number, unique for sale numbers below 100 million."""
    return f"0812{number * 48_271_913 % 100_000_000:08d}"


def price_of(name: str) -> int:
    """Return a price in whole rupiah, always the same for a name."""
    return 8_000 + crc32(name.encode()) % 60 * 500


def _made_up_sale(number: int) -> PlannedSale:
    chance = random.Random(number)
    chosen = chance.sample(MENU, chance.randint(1, 4))
    items = tuple((name, price, chance.choice((1, 1, 1, 2))) for _category, name, price in chosen)
    return PlannedSale(items, phone_of(number), chance.choice(_CUSTOMERS))


def _priced(names: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    return tuple((name[:60], price_of(name), quantity) for name, quantity in Counter(names).items())


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise TillExportError(f"{path} has no column {', '.join(missing)}; it must have {','.join(COLUMNS)}.")
            rows = [{column: (row[column] or "").strip() for column in COLUMNS} for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise TillExportError(f"{path} cannot be read: {error}.") from None
    for line, row in enumerate(rows, start=2):
        if not row["sale"].isascii() or not row["sale"].isdecimal():
            raise TillExportError(f"{path}, line {line}: the sale's number is {row['sale']!r}, which is not a number.")
    return rows
