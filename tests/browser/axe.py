"""Runs axe-core in the page that a browser shows, to find accessibility problems.

The script runs over the debugging protocol, so that the page's Content-Security-Policy does not block it.
"""

from __future__ import annotations

from pathlib import Path

from tests.processes import ROOT

from .chromium import Chromium

SOURCE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
NOT_OURS = {
    # Django's: only the colour distinguishes links in the breadcrumbs from the text beside them.
    ("link-in-text-block", ".breadcrumbs"),
    # Django's: the label of the search field is an image of a magnifying glass.
    ("label-title-only", "#searchbar"),
    # Unfold's: a link to another object in a read-only field is purple on nearly black, a contrast of 4.3 : 1.
    ("color-contrast", ".text-link"),
}
"""Known problems of the themes: a rule, and the selector of the element (or its parent) that breaks it."""
_RUN = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations
    .filter(each => ["serious", "critical"].includes(each.impact))
    .flatMap(each => each.nodes.map(node => [each.id, node.target.join(" "), node.failureSummary]))
    .filter(([rule, target]) => !NOT_OURS.some(([known, around]) => rule === known
        && document.querySelector(target)?.closest(around)))
    .map(parts => parts.join(": ")))"""


def source(path: Path = SOURCE) -> str:
    command = "npm install --no-save --no-package-lock --prefix . axe-core@4"
    assert path.exists(), f"{path} is missing. To install it, run in {ROOT}: {command}"
    return path.read_text()


def violations(browser: Chromium, axe_source: str) -> list[str]:
    """Return the page's serious and critical violations, each with its element and how to fix it."""
    if browser.evaluate("typeof axe") == "undefined":
        browser.evaluate(f"(() => {{ {axe_source} }})()")
    known = [list(pair) for pair in sorted(NOT_OURS)]
    return browser.evaluate(f"(() => {{ const NOT_OURS = {known}; return {_RUN}; }})()")
