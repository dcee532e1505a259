"""Formats results: a line each in the terminal, and the table of benchmarks/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SIGNS = {"<=": "≤", ">=": "≥"}
_BEGIN, _END = "<!-- table: written by python -m benchmarks --readme -->", "<!-- end of the table -->"


def line(result: dict[str, Any]) -> str:
    """One result as a printed line."""
    mark = "MISSED" if result["is_missed"] else "ok"
    shown = "  ".join(filter(None, (_figures(result["figures"]), result["note"])))
    return f"{mark:7}{result['ratio']:8.2f} {result['unit']} {_wanted(result)} {result['name']}  [{shown}]"


def write_table(file: Path, measured: dict[str, Any]) -> None:
    """Replace the table between its marks in `file`."""
    before, _, rest = file.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    versions = ", ".join(
        f"{name} {version}" for name, version in measured["machine"].items() if name not in ("date", "machine")
    )
    machine = measured["machine"]
    lines = [
        f"Measured on {machine['date']} ({measured['scale']}): {machine['machine']}; {versions}.",
        "",
        "| | ratio | to reach | row | against | figures |",
        "|---|---|---|---|---|---|",
        *map(_table_row, measured["results"]),
    ]
    file.write_text("\n".join([before + _BEGIN, "", *lines, "", _END + after]))


def _table_row(result: dict[str, Any]) -> str:
    mark = "**missed**" if result["is_missed"] else "ok"
    unit = "" if result["unit"] == "×" else f" {result['unit']}"
    figures = "; ".join(filter(None, (_figures(result["figures"]), result["note"]))).replace("|", "/")
    ratio = f"{result['ratio']:.2f} {result['unit']}"
    return f"| {mark} | {ratio} | {_wanted(result)}{unit} | {result['name']} | {result['floor']} | {figures} |"


def _wanted(result: dict[str, Any]) -> str:
    return f"{_SIGNS[result['wants']]} {result['target']:g}"


def _figures(figures: dict[str, Any]) -> str:
    """Milliseconds per unit, CPU as ours + the database's, and peak memory of both sides; then the other figures."""
    sides = [
        "{} {wall_ms:.2f} ms, CPU {cpu_ms:.2f}+{database_cpu_ms:.2f}, {peak_mib:.0f} MiB".format(side, **one)
        for side, one in figures.items()
        if isinstance(one, dict) and "wall_ms" in one
    ]
    return "; ".join([*sides, *(f"{name} {value}" for name, value in figures.items() if not isinstance(value, dict))])
