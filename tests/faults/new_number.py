"""A month of a real till on a number that is new to WhatsApp, or on an old one, while workers are killed.

    python -m tests.faults.new_number --csv till.csv                 a new number
    python -m tests.faults.new_number --csv till.csv --in-use 365    one that has been in use for a year

The sales come from a till's export (columns `date,time,sale,item`). It names no customers, so each sale is assigned to
one of a fixed number of regular customers. One in four of them answers a receipt. The database moves to the next day
when nothing is left to send that day, and each day one worker is killed in the middle of it. The run prints a table for
the docs, and ends with exit code 1 if a limit was exceeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from . import campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.new_number", description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--in-use", type=int, default=0, metavar="DAYS", help="how long the number has been in use")
    options = parser.parse_args()
    from example_project.demo.till_export import sales_of_export

    sales = Counter(sale.label[:10] for sale in sales_of_export(options.csv))
    with campaign.site():
        from tests.sandbox import SandboxProcess

        from .harness import KEY
        from .month import Month

        phone = SandboxProcess("--linked", "--license", f"Toko:{KEY}")
        with tempfile.TemporaryDirectory(prefix="kpwa-month-") as folder, phone:
            month = Month(Path(folder), phone, options.in_use)
            try:
                month.start()
                sys.stdout.write(
                    "| day | limit | sold | sent to new customers | of the day | sent to others | wait at night |\n"
                )
                sys.stdout.write("|---|---|---|---|---|---|---|\n")
                for day, count in enumerate(sales.values()):
                    sys.stdout.write(f"{month.live_through(day, count)}\n")
                    sys.stdout.flush()
            finally:
                month.close()
    sys.stdout.write(f"{month.killed} workers were killed; {month.in_doubt} messages are in doubt.\n")
    for words in month.broken:
        sys.stdout.write(f"VIOLATION {words}\n")
    return 1 if month.broken else 0


if __name__ == "__main__":
    sys.exit(main())
