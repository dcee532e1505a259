"""The blocks of code on the pages of `docs/howto/`, which tests run as they stand there."""

from __future__ import annotations

import re

from .processes import ROOT

HOWTO = ROOT / "docs/howto"


def blocks_of(page: str, kind: str = "python") -> list[str]:
    """The text of each block of one kind on a page, in its order. `kind`: the language of the fence, as a pattern."""
    text = (HOWTO / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
