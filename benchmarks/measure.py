"""Measures one row in this process, for `python -m benchmarks`: `python -m benchmarks.measure ROW SCALE FILE`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from .result import Scale
from .servers import ServerMissingError


def main(row: str, scale: str, file: str) -> int:
    try:
        results = import_module(f"benchmarks.rows.{row}").measure(Scale(scale))
    except ServerMissingError as error:
        print(error, file=sys.stderr)
        return 2
    Path(file).write_text(json.dumps({"results": [result.as_json() for result in results]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
