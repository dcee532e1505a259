"""Times in sentences."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from django.utils import translation

from django_kpwa.formatting import sentence
from django_kpwa.receipts import Receipt


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "Sorry, this message comes late. It was to be sent on 11/28/2026 3:13 a.m."),
        ("id", "Maaf, pesan ini terlambat. Seharusnya terkirim 28-11-2026 3.13."),
    ],
)
def test_a_sentence_that_ends_with_a_time_has_one_full_stop(language, expected):
    class Struk(Receipt):
        pass

    with translation.override(language):
        assert Struk().get_late_notice(None, datetime(2026, 11, 27, 20, 13, tzinfo=timezone.utc)) == expected


@pytest.mark.parametrize("words", ["It is due at 3 a.m.", "It is due at 15.00.", "Wait", ""])
def test_what_is_a_sentence_stays_one(words):
    assert sentence(words) == words
    assert sentence(f"{words}.") == (words if words.endswith(".") else f"{words}.")
