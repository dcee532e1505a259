"""The pages of this folder as a site, with Sphinx: `python docs/build.py`."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from django_kpwa import __version__  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "django-kpwa"
author = "The django-kpwa maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_llm.txt", "from_code"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = project
html_show_copyright = False
html_copy_source = False

# The headings' anchors are those of the usual forges, so that a link works in both places.
myst_heading_anchors = 4

myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

# A Markdown twin of each page, `PAGE.html.md`, and `llms.txt`, which lists them.
llms_txt_description = "WhatsApp receipts and notices from a Django site, through the Kasirpintar WA gateway."
llms_txt_suffix_mode = "append"
llms_txt_suppress_unknown_node_warnings = ["abbreviation"]  # the `*` of a signature, which is written anyway

PAGE_OF = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/changelog.md",
    "CODE_OF_CONDUCT.md": "docs/conduct.md",
    "CONTRIBUTING.md": "docs/contribute.md",
    "SECURITY.md": "docs/reporting.md",
    "benchmarks/README.md": "docs/measured.md",
}
"""Files beside this folder, and the page that includes each."""

_LINK = re.compile(r"(\]\()(?!\w+:)([^)\s#]+)")


def with_links_of_the_site(text: str, folder: str, shown_in: str) -> str:
    """Return `text`, written for a file in `folder`, with links adapted to a page in the folder `shown_in`.

    A link to a file that a page includes leads to that page. Both folders are relative to the repository.
    """

    def rewritten(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        return link[1] + posixpath.relpath(PAGE_OF.get(target, target), shown_in)

    return _LINK.sub(rewritten, text)


def _page_read(app: Sphinx, page: str, source: list[str]) -> None:
    folder = posixpath.join("docs", posixpath.dirname(page))
    source[0] = with_links_of_the_site(source[0], folder, folder)


def _included_read(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    folder = (Path(app.srcdir) / path).resolve().parent.relative_to(ROOT).as_posix()
    source[0] = with_links_of_the_site(source[0], folder, posixpath.join("docs", posixpath.dirname(page)))


def _page_written(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if page.startswith("pemilik/"):  # otherwise, a screen reader would read Indonesian as English
        context["language"] = "id"


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _page_written)
    app.connect("source-read", _page_read)
    app.connect("include-read", _included_read)
    for name in ("cron", "layers"):  # blocks for which there is no lexer
        app.add_lexer(name, TextLexer)
