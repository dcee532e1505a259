"""The public names of the package: those that the pages of `reference/` document one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PAGES = Path(__file__).resolve().parent / "reference"


def names_in(page: str) -> Iterator[str]:
    """The dotted names that a page of the reference documents, in its order. `page` is its Markdown."""
    module = ""
    for directive, name in re.findall(r"^\.\. (\w+):: ([\w.]+)", page, re.MULTILINE):
        if directive in ("currentmodule", "automodule"):
            module = name
        elif directive.startswith("auto"):
            yield name if name.startswith("django_kpwa.") else f"{module}.{name}"


def documented_names() -> set[str]:
    """The dotted names of everything that the reference documents one by one."""
    return {name for page in PAGES.glob("*.md") for name in names_in(page.read_text(encoding="utf-8"))}
