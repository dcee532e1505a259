"""The Indonesian translation is complete: each marked text is translated, and the compiled file has it."""

from __future__ import annotations

import re
from gettext import GNUTranslations
from pathlib import Path

import pytest
from django.utils import translation

import django_kpwa
from django_kpwa.models import Status
from tests import texts

PACKAGE = Path(django_kpwa.__file__).parent
CATALOG = PACKAGE / "locale/id/LC_MESSAGES/django.po"
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-#0 +.\d]*[a-zA-Z%]|\{\w*\}")
HEAD = (
    "from django.utils import translation\nfrom django.utils.translation import gettext_lazy as _, gettext, ngettext\n"
)


@pytest.fixture(scope="module")
def catalog():
    return list(texts.entries(CATALOG.read_text(encoding="utf-8")))


def test_every_marked_text_of_the_package_is_translated_and_no_other(catalog):
    marked = texts.of_package(PACKAGE)
    assert "waiting" in marked
    assert "You are here" in marked
    translated = {entry.text for entry in catalog if entry.text}
    assert sorted(map(str, marked - translated)) == []
    assert sorted(map(str, translated - marked)) == []


def test_nothing_is_left_empty_fuzzy_or_twice(catalog):
    assert not [entry.text for entry in catalog if entry.is_fuzzy or not all(map(str.strip, entry.translations))]
    assert len({entry.text for entry in catalog}) == len(catalog)


ODD = (
    "bita",
    "nasib",
    "begitulah",
    "dikesampingkan",
    "direlakan",
    "ditarik",
    "dengan sendirinya",
    "detak",
    "sidik isi",
    "terhubung",
)
"""Words that sound odd to a native speaker, or are a second word for the same thing (tertaut)."""


def test_it_reads_as_somebody_from_there_would_write_it(catalog):
    told = [(entry.text, translated.lower()) for entry in catalog for translated in entry.translations]
    assert not [text for text, translated in told if any(re.search(rf"\b{odd}\b", translated) for odd in ODD)]


def test_one_word_means_one_thing(catalog):
    """`jeda` means the gap between two messages, never a pause of sending."""
    told = [(str(entry.text), translated.lower()) for entry in catalog for translated in entry.translations]
    gaps = [text for text, translated in told if "jeda" in translated]
    assert gaps
    assert not [text for text in gaps if not re.search(r"gap|pace", text, re.IGNORECASE)]


def test_a_translation_has_the_placeholders_of_its_text(catalog):
    for entry in catalog:
        if not entry.text:
            continue
        one, many = entry.text if isinstance(entry.text, tuple) else (entry.text, entry.text)
        # Indonesian has a single plural form, which is used for every count.
        wanted = PLACEHOLDER.findall(many)
        assert set(PLACEHOLDER.findall(one)) <= set(wanted), entry.text
        for translated in entry.translations:
            assert sorted(PLACEHOLDER.findall(translated)) == sorted(wanted), entry.text


def test_the_compiled_catalog_is_that_of_the_written_one(catalog):
    with CATALOG.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)
    # Without the header, because msgfmt omits its time.
    held = {text: translated for text, translated in compiled._catalog.items() if text}
    written = {}
    for entry in catalog:
        if isinstance(entry.text, tuple):
            written |= {(entry.text[0], number): text for number, text in enumerate(entry.translations)}
        elif entry.text:
            (written[entry.text],) = entry.translations
    assert held == written


def test_no_text_is_left_in_english_because_django_has_the_same_one(catalog):
    # Catalogs of earlier apps, such as the admin, take precedence. Django's Indonesian leaves "None" as it is.
    with translation.override("id"):
        shown = {entry.text: translation.gettext(entry.text) for entry in catalog if isinstance(entry.text, str)}
    translated = {entry.text: entry.translations[0] for entry in catalog if isinstance(entry.text, str) and entry.text}
    assert [text for text, ours in translated.items() if shown[text] == text != ours] == []


def test_a_site_in_indonesian_reads_indonesian_labels():
    with translation.override("id"):
        assert Status.QUEUED.label == "menunggu"
        assert Status.UNKNOWN.label == "belum pasti"
    with translation.override("en"):
        assert Status.QUEUED.label == "waiting"


def test_texts_are_found_under_every_name_and_formatted_ones_are_refused():
    calls = "_('a' 'b'); gettext('c'); translation.gettext('d'); other('e'); ngettext('one', 'many', n)"
    assert texts.of_source(HEAD + calls) == {"ab", "c", "d", ("one", "many")}
    with pytest.raises(AssertionError):
        texts.of_source(HEAD + "_(f'{name} is gone')")
    with pytest.raises(AssertionError):
        texts.of_source("from django.utils.translation import pgettext")


def test_texts_of_templates_are_found_in_tags_blocks_and_filters():
    template = """{% load i18n %}{% translate "It's a" %}{% translate 'b' as c %}{{ x|default:_("d") }}
    {% blocktranslate %}{{ n }} e{% endblocktranslate %}{% comment %}{% translate "no" %}{% endcomment %}
    {% blocktranslate count n=n %}one {{ n }}{% plural %}many {{ n }}{% endblocktranslate %}"""
    assert texts.of_template(template) == {"It's a", "b", "d", "%(n)s e", ("one %(n)s", "many %(n)s")}
    with pytest.raises(AssertionError):
        texts.of_template('{% load i18n %}{% translate "May" context "month" %}')
