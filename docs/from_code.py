"""The parts of the reference that come from the code: docstrings, the commands' `--help`, and the tasks.

The package's docstrings are written as Markdown, while autodoc expects reStructuredText: `as_rst()` translates the
parts of Markdown that they use.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from names import documented_names
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_ARGUMENTS = re.compile(r"`\w+`(?:, `\w+`)*: ")
_INDENT = "    "


def as_rst(lines: list[str], links: dict[str, str]) -> list[str]:
    """Translate a docstring's lines: code between backticks, lists of arguments, indented blocks and tables.

    `links`: the dotted names to which `name` and `name()` lead.
    """
    rst: list[str] = []
    table: list[str] = []
    is_listing = False
    for line in [*_without_sections(lines), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            rst += _table(table, links)
            table = []
        after_a_blank = not rst or not rst[-1]
        if _ARGUMENTS.match(line):
            rst += [] if after_a_blank or is_listing else [""]
            rst.append(f"- {_with_code(line, links)}")
            is_listing = True
        elif is_listing and line:
            rst.append(f"  {_with_code(line, links)}")
        else:
            is_listing = False
            if line.startswith(_INDENT) and after_a_blank and not _is_in_block(rst):
                rst += ["::", ""]
            rst.append(line if _is_in_block([*rst, line]) else _with_code(line, links))
    return rst


def _without_sections(lines: list[str]) -> Iterator[str]:
    """Rewrite Google's sections in the style of the other docstrings: a line per argument, a sentence per exception."""
    section = ""
    for line in lines:
        if line in ("Args:", "Raises:"):
            section = line
            continue
        if not line.startswith(_INDENT):
            section = ""
        named = re.match(r"    (\w+): (.+)", line)
        if not section or not named:
            yield line.strip() if section else line
        elif section == "Args:":
            yield f"`{named[1]}`: {named[2]}"
        else:
            yield from ("", f"Raises `{named[1]}`: {named[2]}")


def _is_in_block(rst: list[str]) -> bool:
    """True if the next line would belong to the last literal block."""
    for line in reversed(rst):
        if line == "::":
            return True
        if line and not line.startswith(_INDENT):
            return False
    return False


def _with_code(text: str, links: dict[str, str]) -> str:
    def written(found: re.Match[str]) -> str:
        code = found[1]
        target = links.get(code.removesuffix("()"))
        return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"

    return _CODE.sub(written, text)


def _table(rows: list[str], links: dict[str, str]) -> list[str]:
    heading, _rule, *others = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    rst = [".. list-table::", "   :header-rows: 1", ""]
    for row in [heading, *others]:
        rst += [f"   {'*' if not place else ' '} - {_with_code(cell, links)}" for place, cell in enumerate(row)]
    return [*rst, ""]


class Help(SphinxDirective):
    """`kpwa-help`: the output of `manage.py kpwa SUBCOMMAND --help`, for every subcommand."""

    def run(self) -> list[nodes.Node]:
        from django.core.management import load_command_class

        os.environ["COLUMNS"] = "88"  # the width of argparse, independent of the terminal
        parser: Any = load_command_class("django_kpwa", "kpwa").create_parser("manage.py", "kpwa")
        (subparsers,) = (action for action in parser._actions if hasattr(action, "_name_parser_map"))
        shown: list[nodes.Node] = []
        for name, subparser in subparsers.choices.items():
            if name != "sandbox":  # passes on all its arguments, `--help` too
                section = nodes.section(ids=[f"kpwa-{name}"], names=[f"kpwa {name}"])
                section += nodes.title(text=f"kpwa {name}")
                section += nodes.literal_block(text=subparser.format_help(), language="text")
                shown.append(section)
        return shown


class Tasks(SphinxDirective):
    """`kpwa-tasks`: the names of the Celery tasks, each with its docstring."""

    def run(self) -> list[nodes.Node]:
        from celery import current_app

        from django_kpwa import tasks  # noqa: F401 - registers them

        ours = sorted(name for name in current_app.tasks if name.startswith("django_kpwa."))
        lines = [line for name in ours for line in (f"`{name}`", f": {_sentence_of(current_app.tasks[name])}", "")]
        return self.parse_text_to_nodes("\n".join(lines))


def _sentence_of(task: Any) -> str:
    first, _, _ = task.__doc__.partition("\n\n")
    return " ".join(first.split())


def set_up_django() -> None:
    """Make the package importable, as if installed in a site."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import django
    from django.conf import settings

    apps = ["auth", "contenttypes", "sessions", "messages", "admin"]
    settings.configure(
        INSTALLED_APPS=[*(f"django.contrib.{app}" for app in apps), "django_kpwa"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        SECRET_KEY="for the docs",
        USE_TZ=True,
        LANGUAGE_CODE="en",
    )
    django.setup()


def setup(app: Sphinx) -> None:
    set_up_django()
    app.add_directive("kpwa-help", Help)
    app.add_directive("kpwa-tasks", Tasks)
    full: dict[str, str] = {}
    for name in sorted(documented_names()):
        full[name] = full[name.rpartition(".")[2]] = name

    def translate(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        if inspect.getdoc(type(obj)) == "\n".join(lines).strip():  # of a list, for example: says nothing of this one
            lines.clear()
        lines[:] = as_rst(lines, full)

    app.connect("autodoc-process-docstring", translate)
