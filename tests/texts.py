"""Reads the texts that the package marks for translation, and the entries of a catalog, without the gettext tools.

A text is its msgid, or a pair of singular and plural. Texts with a context are an error, so that none is missed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.utils.translation.template import templatize

Text = str | tuple[str, str]

SINGULARS = {"gettext", "gettext_lazy", "gettext_noop"}
PLURALS = {"ngettext", "ngettext_lazy"}
UNREADABLE = {"pgettext", "pgettext_lazy", "npgettext", "npgettext_lazy"}
_STRING = r"""(u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*")"""
_IN_TEMPLATE = re.compile(rf"\b(n?p?gettext|_)\(\s*{_STRING}(?:\s*,\s*{_STRING})?")


def of_package(package: Path) -> set[Text]:
    """Return every text that the sources and templates of `package` mark."""
    texts: set[Text] = set()
    for path in package.rglob("*.py"):
        texts |= of_source(path.read_text(encoding="utf-8"))
    for path in package.rglob("*.html"):
        texts |= of_template(path.read_text(encoding="utf-8"))
    return texts


def of_source(source: str) -> set[Text]:
    """Return the texts that `source` passes to gettext, under whatever name it imports gettext."""
    tree = ast.parse(source)
    imported = [
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for name in node.names
    ]
    names = {name.asname or name.name: name.name for name in imported}
    assert not UNREADABLE.intersection(names.values())
    texts: set[Text] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute):
            assert called.attr not in UNREADABLE, ast.unparse(node)
            name = called.attr
        else:
            name = names.get(called.id, "") if isinstance(called, ast.Name) else ""
        if name in SINGULARS:
            (text,) = node.args
            texts.add(_constant(text, node))
        elif name in PLURALS:
            one, many, _count = node.args
            texts.add((_constant(one, node), _constant(many, node)))
    return texts


def of_template(template: str) -> set[Text]:
    """Return the texts of a template's tags and its `_("…")`, as `makemessages` reads them."""
    texts: set[Text] = set()
    for found in _IN_TEMPLATE.finditer(templatize(template)):
        name, one, many = found.groups()
        assert "p" not in name, found.group()
        # The second argument in a filter's `_("…", …)` is not a plural.
        texts.add((_read(one), _read(many)) if name == "ngettext" else _read(one))
    return texts


@dataclass(frozen=True)
class Entry:
    """One entry of a .po file. The text of the header is empty."""

    text: Text
    translations: tuple[str, ...]
    is_fuzzy: bool


def entries(catalog: str) -> Iterator[Entry]:
    """Yield every entry of the .po file `catalog`."""
    for block in re.split(r"\n\s*\n", catalog.strip()):
        lines = block.splitlines()
        parts: dict[str, str] = {}
        for line in lines:
            if line.startswith("#"):
                assert not line.startswith("#~"), f"The catalog has an obsolete text: {line}"
                continue
            keyword, quoted = re.fullmatch(r'([\w\[\]]+ )?(".*")', line).groups()
            keyword = keyword.strip() if keyword else list(parts)[-1]
            parts[keyword] = parts.get(keyword, "") + ast.literal_eval(quoted)
        if not parts:
            continue
        one, many = parts.pop("msgid"), parts.pop("msgid_plural", None)
        assert all(keyword.startswith("msgstr") for keyword in parts), block
        is_fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in lines)
        yield Entry(one if many is None else (one, many), tuple(parts.values()), is_fuzzy)


def _constant(argument: ast.expr, call: ast.Call) -> str:
    # An f-string or a name cannot be translated.
    assert isinstance(argument, ast.Constant), ast.unparse(call)
    return argument.value


def _read(literal: str) -> str:
    return str(ast.literal_eval(literal))
