"""The code blocks on the pages of `docs/howto/`, which tests run unchanged."""

from __future__ import annotations

import re

from .processes import ROOT

HOWTO = ROOT / "docs/howto"


def blocks_of(page: str, kind: str = "python") -> list[str]:
    """Return the texts of a page's code blocks of one kind, in order. `kind` is a pattern for the fence's language."""
    text = (HOWTO / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
