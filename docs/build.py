"""Builds these pages as a site: `python docs/build.py [FOLDER]`, `build/docs` if no folder is given.

Sphinx's warnings are errors. Sphinx misses some faults, which this script looks for in the built pages: links, pictures
and anchors that lead nowhere, parts that a browser would fetch from other sites, pages without a Markdown twin, and
twins with broken links. Needs the extra `docs`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).resolve().parent
TWIN_LINK = re.compile(r"(\]\()(?!\w+:)([^)\s#]+)")
WITHOUT_TWIN = {"genindex.html", "search.html", "py-modindex.html"}


class Page(HTMLParser):
    """The anchors of a page, its language, the addresses that it links to, and those that a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()
        self.language = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "html":
            self.language = given.get("lang", "")
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given:
            (self.loaded if tag == "link" and given.get("rel") == "stylesheet" else self.linked).add(given["href"])
        self.loaded |= {given[name] for name in ("src", "srcset") if name in given}


def build(site: Path) -> int:
    """Have Sphinx write the site into the folder `site`; returns Sphinx's exit code."""
    options = ["-W", "--keep-going", "-q", "-E", "-b", "html"]
    return subprocess.run([sys.executable, "-m", "sphinx", *options, str(DOCS), str(site)]).returncode


def mend_twins(site: Path) -> None:
    """Correct the links of Markdown twins to pictures and files, which are written as seen from the site's root."""
    for twin in site.rglob("*.html.md"):

        def found(link: re.Match[str], twin: Path = twin) -> str:
            places = (twin.parent / link[2], site / link[2], site / "_images" / Path(link[2]).name)
            place = next((each for each in places if each.exists()), places[0])
            return link[1] + Path(os.path.relpath(place, twin.parent)).as_posix()

        twin.write_text(TWIN_LINK.sub(found, twin.read_text(encoding="utf-8")), encoding="utf-8")


def find_faults(site: Path) -> list[str]:
    """Return the faults of the site in the folder `site`, a sentence for each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site)
        faults += [f"{name} loads {address}" for address in sorted(page.loaded) if _is_elsewhere(address)]
        faults += [
            f"{name} leads to {address}, which is not there"
            for address in sorted(page.linked | page.loaded)
            if not _is_elsewhere(address) and not _is_there(path, address, pages)
        ]
        language = "id" if "pemilik" in name.parts else "en"
        if page.language != language:
            faults.append(f"{name} declares its language as {page.language!r}, but it is {language!r}")
        if name.name not in WITHOUT_TWIN and not path.with_name(f"{path.name}.md").exists():
            faults.append(f"{name} has no Markdown twin")
    for twin in sorted({*site.rglob("*.html.md"), *site.rglob("llms.txt")}):
        text = re.sub(r"^```.*?^```", "", twin.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        faults += [
            f"{twin.relative_to(site)} leads to {address}, which is not there"
            for _, address in sorted(set(TWIN_LINK.findall(text)))
            if not (twin.parent / unquote(address)).exists()
        ]
    for style in site.rglob("*.css"):
        fetched = re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", style.read_text(encoding="utf-8"))
        faults += [f"{style.relative_to(site)} loads {address}" for address in fetched]
    listed = set(re.findall(r"\]\(([^)]+)\.md\)", "".join(path.read_text() for path in site.rglob("llms.txt"))))
    written = {path.relative_to(site).as_posix() for path in pages} - WITHOUT_TWIN
    faults += [f"{name} is not in llms.txt" for name in sorted(written - listed)]
    return faults


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc or parts.scheme) and parts.scheme != "data"


def _is_there(path: Path, address: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not parts.fragment or target not in pages:
        return target.exists()
    return unquote(parts.fragment) in pages[target].anchors


def main() -> int:
    site = Path(sys.argv[1] if len(sys.argv) > 1 else DOCS.parent / "build/docs").resolve()
    if status := build(site):
        return status
    mend_twins(site)
    faults = find_faults(site)
    print("\n".join(faults) or f"The site is in {site}: open {site / 'index.html'}.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
