"""Which messages of a customer mean stop, wrong number or start. All other messages mean none of them."""

import pytest

from django_kpwa.conf import Settings
from django_kpwa.models import StopReason
from django_kpwa.webhooks.stops import what_is_asked

STOPPED, WRONG, START = StopReason.STOPPED, StopReason.WRONG_NUMBER, True


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("stop", STOPPED),
        ("STOP!!!", STOPPED),
        (" Stop. 🙏🙏", STOPPED),
        ("\u201cBerhenti\u201d", STOPPED),
        ("UNREG", STOPPED),
        ("Unsubscribe", STOPPED),
        ("un-sub", STOPPED),
        ("*STOP*", STOPPED),
        ("\u200eStop\u200b", STOPPED),
        ("stop 1\ufe0f\u20e3", STOPPED),
        ("#\ufe0f\u20e3 stop", STOPPED),
        ("STOP \u3299\ufe0f", STOPPED),
        ("stop \u2122\ufe0f \u2139\ufe0f", STOPPED),
        ("Berhenti \U0001f17f\ufe0f\U0001f235", STOPPED),
        ("stop \u24c2 \u24f5", STOPPED),
        ("stop \U0001f44d\U0001f3fd \U0001f1ee\U0001f1e9", STOPPED),
        ("Jangan  kirim\nlagi!", STOPPED),
        ("ＳＴＯＰ", STOPPED),
        ("salah nomor", WRONG),
        ("Salah nomor, ya…", None),
        ("SALAH SAMBUNG 😡", WRONG),
        ("Wrong number.", WRONG),
        ("salahnomor", WRONG),
        ("mulai", START),
        ("Start!", START),
        ("", None),
        ("🙏", None),
        ("...", None),
        ("stop dulu ya kak", None),
        ("jangan stop", None),
        ("BERHENTI ya", None),
        ("stop 1", None),
        ("stop1", None),
        ("kapan mulai?", None),
        ("Nomor saya yang lama salah", None),
        ("stopkontak", None),
    ],
)
def test_only_a_whole_message_counts(text, asked):
    assert what_is_asked(text, Settings()) is asked


def test_a_site_has_words_of_its_own():
    own = Settings(STOP_WORDS=("Ora usah",), WRONG_NUMBER_WORDS=(), START_WORDS=())
    assert what_is_asked("ORA USAH!", own) is STOPPED
    assert [what_is_asked(text, own) for text in ("stop", "salah nomor", "mulai")] == [None] * 3


def test_a_word_of_signs_alone_is_no_word():
    assert what_is_asked("!!!", Settings(STOP_WORDS=("…",))) is None
