"""Measures all rows, or those named. Prints a table, writes a JSON file, and exits with 1 if a ratio is missed.

    python -m benchmarks --quick
    python -m benchmarks lane webhook --json /tmp/rows.json

Each row runs in a separate process, on a separate database. `benchmarks.servers` describes the servers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import report
from .rows import ROWS

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure: {', '.join(ROWS)}; all by default")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller sizes, in some minutes")
    size.add_argument("--smoke", action="store_true", help="only check that the rows still run; misses do not count")
    parser.add_argument("--readme", action="store_true", help="write the table into benchmarks/README.md as well")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results.json", help="where to write")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    scale = "quick" if options.quick else "smoke" if options.smoke else "full"
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    began_at = time.monotonic()
    for row in options.rows or ROWS:
        row_began_at = time.monotonic()
        found = _measured(row, scale)
        print(f"… {row}, {time.monotonic() - row_began_at:.0f} s", file=sys.stderr, flush=True)
        if found is None:
            failed.append(row)
            continue
        for result in found:
            print(report.line(result), flush=True)
        results += found
    missed = [result["name"] for result in results if result["is_missed"]]
    measured = {"scale": scale, "machine": _machine(), "failed": failed, "results": results}
    options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if options.readme:
        report.write_table(ROOT / "benchmarks" / "README.md", measured)
    print(f"\n{len(results)} ratios in {time.monotonic() - began_at:.0f} s, written to {options.json}.")
    if failed:
        print(f"Could not be measured: {', '.join(failed)}.")
    if missed:
        print(f"Missed: {'; '.join(missed)}.")
    return 1 if failed or (missed and scale != "smoke") else 0


def _measured(row: str, scale: str) -> list[dict[str, Any]] | None:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measure", row, scale, file.name], cwd=ROOT, check=False
        )
        return json.loads(Path(file.name).read_text())["results"] if done.returncode == 0 else None


def _machine() -> dict[str, str]:
    packages = ("django", "celery", "kombu", "redis", "requests", "urllib3", "psycopg", "djangorestframework")
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {model or platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
