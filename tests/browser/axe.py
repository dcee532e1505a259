"""axe-core in the page that a browser shows: what it finds there that keeps somebody out.

Its source is run over the debugging protocol, so that a page's own policy does not keep it out.
"""

from __future__ import annotations

from pathlib import Path

from tests.processes import ROOT

from .chromium import Chromium

SOURCE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
NOT_OURS = {
    # Django's own: links in the header's breadcrumbs are told from the text beside them by their colour alone.
    ("link-in-text-block", ".breadcrumbs"),
    # Django's own: the search field's label is a picture of a magnifying glass.
    ("label-title-only", "#searchbar"),
    # Unfold's own: the link to another object in a read-only field, purple on nearly black, at 4.3 : 1.
    ("color-contrast", ".text-link"),
}
"""A rule, and the element (or what is around it) of a theme's own where it is known to be broken."""
_RUN = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations
    .filter(each => ["serious", "critical"].includes(each.impact))
    .flatMap(each => each.nodes.map(node => [each.id, node.target.join(" "), node.failureSummary]))
    .filter(([rule, target]) => !NOT_OURS.some(([known, around]) => rule === known
        && document.querySelector(target)?.closest(around)))
    .map(parts => parts.join(": ")))"""


def source(path: Path = SOURCE) -> str:
    command = "npm install --no-save --no-package-lock --prefix . axe-core@4"
    assert path.exists(), f"{path} is missing. In {ROOT}: {command}"
    return path.read_text()


def violations(browser: Chromium, axe_source: str) -> list[str]:
    """The serious and critical ones of the page, each with the element and what would mend it."""
    if browser.evaluate("typeof axe") == "undefined":
        browser.evaluate(f"(() => {{ {axe_source} }})()")
    known = [list(pair) for pair in sorted(NOT_OURS)]
    return browser.evaluate(f"(() => {{ const NOT_OURS = {known}; return {_RUN}; }})()")
