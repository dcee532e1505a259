"""The Indonesian translation is whole: every text that the package marks has one, and the compiled file holds it.

The texts are read off the sources, without the gettext tools. Plurals and contexts are refused rather than overlooked:
the first of them makes both readers here grow.
"""

from __future__ import annotations

import ast
import re
from gettext import GNUTranslations
from pathlib import Path

import pytest
from django.utils import translation

import django_kpwa
from django_kpwa.models import Status
from tests.cli import kpwa

PACKAGE = Path(django_kpwa.__file__).parent
CATALOG = PACKAGE / "locale/id/LC_MESSAGES/django.po"
MARKERS = {"gettext", "gettext_lazy", "gettext_noop"}
UNREADABLE = {f"{name}{lazy}" for name in ("ngettext", "pgettext", "npgettext") for lazy in ("", "_lazy")}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-#0 +.\d]*[a-zA-Z%]|\{\w*\}")


def marked_texts(source: str) -> set[str]:
    """The texts that `source` hands to gettext, under whatever name it imported it."""
    tree = ast.parse(source)
    imported = [
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for name in node.names
    ]
    assert not UNREADABLE.intersection(name.name for name in imported)
    markers = {name.asname or name.name for name in imported if name.name in MARKERS}
    texts = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute):
            assert called.attr not in UNREADABLE, ast.unparse(node)
            is_marker = called.attr in MARKERS
        else:
            is_marker = isinstance(called, ast.Name) and called.id in markers
        if is_marker:
            (text,) = node.args
            # An f-string, or a name, is nothing that can be translated.
            assert isinstance(text, ast.Constant), ast.unparse(node)
            texts.add(text.value)
    return texts


def entries(catalog: str) -> list[tuple[str, str, bool]]:
    """Text, translation and whether it is fuzzy, of every entry of a .po file; the header's text is empty."""
    found = []
    for block in re.split(r"\n\s*\n", catalog.strip()):
        lines = block.splitlines()
        parts: dict[str, str] = {}
        for line in lines:
            if line.startswith("#"):
                continue
            keyword, quoted = re.fullmatch(r'(\w+ )?(".*")', line).groups()
            keyword = keyword.strip() if keyword else list(parts)[-1]
            parts[keyword] = parts.get(keyword, "") + ast.literal_eval(quoted)
        if parts:
            is_fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in lines)
            assert parts.keys() == {"msgid", "msgstr"}
            found.append((parts["msgid"], parts["msgstr"], is_fuzzy))
    return found


@pytest.fixture(scope="module")
def catalog():
    return entries(CATALOG.read_text(encoding="utf-8"))


def test_every_marked_text_of_the_package_is_translated_and_no_other(catalog):
    marked = set().union(*(marked_texts(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")))
    assert "waiting" in marked
    translated = {text for text, translated, is_fuzzy in catalog if text and translated and not is_fuzzy}
    assert translated == marked


def test_nothing_is_left_empty_fuzzy_or_twice(catalog):
    assert not [text for text, translated, is_fuzzy in catalog if is_fuzzy or not translated.strip()]
    assert len({text for text, *_ in catalog}) == len(catalog)


def test_a_translation_has_the_placeholders_of_its_text(catalog):
    for text, translated, _ in catalog:
        if text:
            assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(translated)), text


def test_the_compiled_catalog_is_that_of_the_written_one(catalog):
    with CATALOG.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)
    # Without the header, of which msgfmt leaves the time out.
    held = {text: translated for text, translated in compiled._catalog.items() if text}
    assert held == {text: translated for text, translated, _ in catalog if text}


def test_a_site_in_indonesian_reads_indonesian_labels():
    with translation.override("id"):
        assert Status.QUEUED.label == "menunggu"
        assert Status.UNKNOWN.label == "belum pasti"
    with translation.override("en"):
        assert Status.QUEUED.label == "waiting"


def test_the_commands_speak_english_on_a_site_in_indonesian(license_):
    kpwa("licenses", "pause", license_.name)
    with translation.override("id"):
        assert "paused by a person" in kpwa("licenses")[1]


def test_texts_are_found_under_every_name_and_formatted_ones_are_refused():
    head = "from django.utils import translation\nfrom django.utils.translation import gettext_lazy as _, gettext\n"
    assert marked_texts(head + "_('a' 'b'); gettext('c'); translation.gettext('d'); other('e')") == {"ab", "c", "d"}
    with pytest.raises(AssertionError):
        marked_texts(head + "_(f'{name} is gone')")
    with pytest.raises(AssertionError):
        marked_texts("from django.utils.translation import ngettext")
