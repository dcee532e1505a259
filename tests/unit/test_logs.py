"""Foreign text in logs and on terminals can be read, and has no other effect."""

from __future__ import annotations

import importlib
import io
import json
import logging
import re
from pathlib import Path

import pytest
from django.core.management import CommandError
from django.core.management.base import OutputWrapper

import django_kpwa
from django_kpwa import announce
from django_kpwa.cli.console import Console, as_command_error
from django_kpwa.encryption import Secret
from django_kpwa.exceptions import BadRequestError, GatewayError
from django_kpwa.gateway import answers
from django_kpwa.gateway.answers import Answer
from django_kpwa.gateway.console import ConsoleGateway
from django_kpwa.logs import get_logger, lines_of, traceback_of, without_controls
from django_kpwa.masking import masked_traceback, words_of
from django_kpwa.models import License, PauseReason
from django_kpwa.store.results import Pause

PACKAGE = Path(django_kpwa.__file__).parent
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nERROR forged\x85line\u2028another\u2029\u202egnp.exe\u2066\u200f\x9b31m\x00"
DANGEROUS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def written():
    """A function that returns what a log handler of the site has written."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(before)


def is_harmless(text: str) -> bool:
    return not DANGEROUS.search(text) and not re.search(r"^ERROR forged", text, re.MULTILINE)


def test_every_logger_of_the_package_is_one_that_cleans():
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "logs.py"]
    assert [path for path in sources if "getLogger(" in path.read_text(encoding="utf-8")] == []
    assert sum("get_logger(" in path.read_text(encoding="utf-8") for path in sources) > 15


def test_a_logger_cleans_whatever_it_is_given_and_leaves_numbers_alone(written):
    logger = get_logger("django_kpwa.anything")
    logger.warning("%s %d %.1f %s %s", HOSTILE, 7, 1.5, ValueError(HOSTILE), None)
    assert is_harmless(written())
    assert written().count("\n") == 1
    assert " 7 1.5 " in written()


def test_a_traceback_keeps_its_lines_and_the_words_in_it_are_on_one(written):
    def fail():
        try:
            raise KeyError(HOSTILE)
        except KeyError as error:
            later = ValueError(f"cause {HOSTILE}")
            vars(later)["__notes__"] = [f"note {HOSTILE}"]
            raise later from error

    try:
        fail()
    except ValueError as error:
        trace = masked_traceback(error)
    get_logger("django_kpwa.anything").error("It failed.\n%s", trace)
    assert is_harmless(written())
    assert "Traceback (most recent call last):\n" in written()
    [line] = [line for line in written().split("\n") if line.startswith("ValueError")]
    assert "ERROR forged" in line


def test_an_error_that_cannot_be_written_is_no_harm():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    group = MuteError()
    group.__context__ = MuteError()
    group.__context__.__context__ = group
    assert "MuteError" in traceback_of(group)


def test_an_alert_with_hostile_words_is_one_line(written):
    announce.lane_paused(License(name=f"Toko {HOSTILE}"), Pause(PauseReason.FAILING, 30.0, f"Busy {HOSTILE}"))
    assert is_harmless(written())
    assert written().count("\n") == 1


def test_the_words_of_a_gateway_are_clean_where_they_are_read():
    body = json.dumps({"message": f"No {HOSTILE}", "errors": [HOSTILE], "code": HOSTILE}).encode()
    with pytest.raises(BadRequestError) as refused:
        answers.read_object(Answer(400, {}, body, "/", (Secret("k" * 20),)))
    for text in (str(refused.value), refused.value.words, *refused.value.errors, refused.value.code):
        assert without_controls(text) == text


def test_what_a_sites_code_raised_is_stored_as_one_clean_line():
    assert is_harmless(words_of(ValueError(HOSTILE)))
    assert "\n" not in words_of(ValueError(HOSTILE))


@pytest.mark.parametrize("name", ["urllib3.connectionpool", "django.request"])
def test_paths_that_others_log_forge_no_line(written, name):
    importlib.import_module("django_kpwa.gateway.transport")
    logging.getLogger(name).warning("Not Found: %s", f"/kpwa/{HOSTILE}")
    assert is_harmless(written())
    assert written().count("\n") == 1


def console(*, as_json=False):
    stream = io.StringIO()
    return Console(OutputWrapper(stream), as_json=as_json), stream.getvalue


def test_what_is_said_on_a_terminal_is_one_line_and_steers_nothing():
    said, text = console()
    said.say(f"The last error: {HOSTILE}")
    said.table(("A", "B"), [(HOSTILE, 1)])
    assert is_harmless(text())
    assert text().count("\n") == 3


def test_json_on_a_terminal_steers_nothing_and_says_the_same():
    told, text = console(as_json=True)
    told.document({"error": HOSTILE, "name": "Budi 🙏"})
    assert is_harmless(text())
    assert json.loads(text()) == {"error": HOSTILE, "name": "Budi 🙏"}
    assert "🙏" in text()


def test_an_error_that_ends_a_command_is_one_clean_line():
    error = as_command_error(GatewayError(HOSTILE, words=HOSTILE))
    assert isinstance(error, CommandError)
    assert is_harmless(str(error))
    assert "\n" not in str(error)


def test_the_console_gateway_keeps_lines_and_escapes_controls():
    stream = io.StringIO()
    ConsoleGateway(Secret("x"), stream=stream).send_message("081234567890", f"Struk\nBudi {HOSTILE}\nTotal")
    assert not DANGEROUS.search(stream.getvalue())
    assert "\nTotal\n" in stream.getvalue()


def test_line_feeds_of_our_own_stay():
    assert lines_of("a\nb\x1bc\r\n") == "a\nb c \n"
