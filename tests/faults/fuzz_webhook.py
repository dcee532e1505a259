"""Fuzzes the webhook: posts generated input to the whole site, has it processed, and checks the promises.

    pip install atheris
    python -m tests.faults.fuzz_webhook --seconds 3600 --corpus /tmp/kpwa-corpus

The database is SQLite in memory, so that one core tries thousands of inputs a minute. Texts that PostgreSQL and MariaDB
would refuse are detected by a check instead. The run ends with the first input that breaks a promise, which libFuzzer
writes to a file; `python -m tests.faults.fuzz_webhook FILE` tries it again. Every input that was ever found is in
`seeds()`, which test_webhook_bodies.py also tries, without atheris.

An input is two bytes and a body. The first byte: below 8, a request that is wrong in one way. The second: the index in
`CONTENT_TYPES`; beyond its end, the body's first line is the content type.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import logging
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.parse import urlencode

TOKEN = "fuzz-token-" + "Qz7_" * 8
NUMBER = "6281234567890"
SHOP = "6281100000001"
TEXT = "Struk 17"
CONTENT_TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain; charset=utf-16",
    "image/png",
    "",
]
MAX_BYTES = 65_536
MAX_SECONDS = 3.0
MAX_MEGABYTES = 150
MAX_QUERIES = 30
PROVEN = ("sent", "delivered", "read")


def seeds() -> Iterator[bytes]:
    """Payloads of this family of gateways, known stumbling blocks of parsers, and earlier findings of the fuzzer."""
    fields = {"id": "A1", "from": NUMBER, "message": "halo", "timestamp": 1700000000, "status": "read"}
    for payload in (
        fields,
        {"data": {**fields, "isFromMe": True, "to": NUMBER, "message": TEXT}},
        {
            "key": {"id": "A1", "fromMe": True, "remoteJid": f"{NUMBER}@s.whatsapp.net"},
            "message": {"conversation": TEXT},
        },
        {"id": {"fromMe": False, "_serialized": "A1"}, "from": f"{NUMBER}@c.us", "to": f"{SHOP}@c.us", "ack": 3},
        {"messages": [fields, {"id": "B1", "ack": 2}, {"from": "1@g.us", "author": NUMBER, "body": "x"}]},
        {"data": json.dumps({"id": "A1", "from": NUMBER, "message": "halo"})},
        {"device": SHOP, "status": "disconnected"},
        {"from": "1234@lid", "sender": SHOP, "image": "https://x.example/a.png", "isGroup": "true"},
    ):
        yield _input(0, json.dumps(payload).encode())
    yield _input(1, urlencode(fields).encode())
    yield _input(1, b"data[from]=6281234567890&data[message]=%F0%9F%99%8F&data[id]=A1&data[[x]=")
    yield _input(2, b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\nA1\r\n--x--\r\n')
    yield _input(255, b"multipart/form-data; boundary=\xff\n--\xc3\xbf\r\n")
    for body in (b"", b"\x00\xff", rb'{"id": "\ud800\u0000"}', b'{"id": NaN, "ack": 1e999}', b'{"data":' * 900):
        yield _input(0, body)
    yield from _heavy_seeds()
    for wrong in range(8):
        yield bytes([wrong, 0]) + b"/kpwa/webhooks/x/"


def made_up(count: int, random: Random) -> Iterator[bytes]:
    """Inputs without atheris: seeds with a piece of another one, or with a byte or span changed, doubled or removed."""
    known = list(seeds())
    for _ in range(count):
        one, other = bytearray(random.choice(known)), random.choice(known)
        for _ in range(random.randint(1, 6)):
            at, length = random.randrange(2, len(one) + 1), random.randint(1, 60)
            change = random.randrange(4)
            if change == 0:
                start = random.randrange(len(other))
                one[at:at] = other[start : start + length]
            elif change == 1:
                del one[at : at + length]
            elif change == 2:
                one[at:at] = one[at : at + length] * random.randint(1, 40)
            else:
                one[at : at + 1] = bytes([random.randrange(256)])
        yield bytes(one[:MAX_BYTES])


def _heavy_seeds() -> Iterator[bytes]:
    """Inputs that once cost a worker minutes, gigabytes, or a query for each of their parts and candidates."""
    echo = {"isFromMe": True, "phone": NUMBER, "message": TEXT}
    for payload in (
        {"from": NUMBER, "message": "x" * 50_000, "data": [{}] * 500},
        [{**echo, "n": number} for number in range(500)],
        [{**echo, "id": f"W{number}"} for number in range(500)],
        [{"id": "A1", "ack": number % 5} for number in range(500)],
        {"event": "message.ack", "payload": {"ids": [f"A{number}" for number in range(500)], "receipt_type": "read"}},
        {"entry": [{"changes": [{"value": {"messages": [{"from": NUMBER}] * 20}}] * 20}] * 20},
        {"messages": [{"data": json.dumps({"data": "{" + "[" * 100})}] * 300},
        {"id": "8" * 20_000, "from": "8" * 20_000, "status": "8" * 20_000, "data": [{}] * 500},
    ):
        yield _input(0, json.dumps(payload).encode())
    yield _input(0, gzip.compress(b'{"from": "6281234567890", "message": "' + b"x" * 20_000_000))
    yield _input(1, b"&".join(b"data" + b"[a]" * 12 + b"[%d]=1" % number for number in range(900)))


class Site:
    """A site with one message in doubt (`A1`), and another license with a message (`B1`)."""

    def __init__(self) -> None:
        from django.core.handlers.wsgi import WSGIHandler

        from django_kpwa.license_actions import token_digest
        from django_kpwa.models import DatabaseNow, Lane, License, WebhookToken

        self.written = _CollectingHandler()
        logging.getLogger().addHandler(self.written)
        self._application = WSGIHandler()
        self._license = License.objects.create(name="Toko Utama")
        Lane.objects.create(license=self._license, linked_number=SHOP)
        WebhookToken.objects.create(license=self._license, digest=token_digest(TOKEN), created_at=DatabaseNow())
        self._message_id = _message_in_doubt(self._license, "A1")
        self._foreign_id = _message_in_doubt(License.objects.create(name="Toko Kedua"), "B1")

    def close(self) -> None:
        logging.getLogger().removeHandler(self.written)

    def take(self, made_up: bytes) -> int:
        """Post one input and have it processed. Returns the answer's status. `AssertionError`: a broken promise."""
        from django_kpwa.models import SeenId, WebhookEvent

        environ, body = _request(made_up)
        status, answer = self._post(environ, body)
        assert status < 500, status
        assert TOKEN.encode() not in answer
        assert (status == 200) == (answer == b'{"status": "ok"}') or environ["REQUEST_METHOD"] == "HEAD"
        events = list(WebhookEvent.objects.all())
        is_question = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        assert len(events) == (status == 200 and not is_question), (status, events)
        if events:
            # Repeats cost as much as everything else together, so only one in eight is repeated.
            repeats = zlib.crc32(made_up) % 8 == 0
            assert bytes(events[0].body) == body[: _told_length(environ, body)]
            _check_storable(events[0].content_type)
            if repeats:
                repeated, _ = self._post(environ, body)
                assert (repeated, WebhookEvent.objects.count()) == (200, 1)
            self._process(events[0], repeats=repeats)
        assert self.written.lines == []
        self._check_messages()
        WebhookEvent.objects.all().delete()
        SeenId.objects.all().delete()
        return status

    def _post(self, environ: dict[str, object], body: bytes) -> tuple[int, bytes]:
        statuses: list[str] = []
        environ = {**environ, "wsgi.input": io.BytesIO(body)}
        response = self._application(environ, lambda status, headers: statuses.append(status))
        try:
            return int(statuses[0].split()[0]), b"".join(response)
        finally:
            response.close()

    def _process(self, event, *, repeats: bool) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from django_kpwa.webhooks import process_event, reprocess

        began_at, before = time.process_time(), _peak_megabytes()
        with CaptureQueriesContext(connection) as queries:
            assert process_event(event.pk)
        seconds, megabytes = time.process_time() - began_at, _peak_megabytes() - before
        assert seconds < MAX_SECONDS, seconds
        assert megabytes < MAX_MEGABYTES, megabytes
        assert len(queries) <= MAX_QUERIES, len(queries)
        event.refresh_from_db()
        assert event.status in ("processed", "unmatched", "unrecognised"), (event.status, event.error)
        assert event.tries == 1
        _check_storable([event.understood, event.gateway_id, event.sender_number])
        assert event.message_id in (None, self._message_id)
        if repeats:
            understood = event.understood
            assert reprocess(event)
            event.refresh_from_db()
            assert event.understood == understood

    def _check_messages(self) -> None:
        from django_kpwa.models import OutboundMessage

        statuses = dict(OutboundMessage.objects.values_list("pk", "status"))
        assert statuses[self._foreign_id] == "unknown"
        status = statuses[self._message_id]
        assert status in ("unknown", *PROVEN), status
        if status != "unknown":
            OutboundMessage.objects.filter(pk=self._message_id).update(
                status="unknown", reason="timeout", sent_at=None, delivered_at=None, read_at=None
            )


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def set_up() -> None:
    """Django with an empty SQLite database in memory."""
    os.environ |= {
        "DATABASE_URL": "sqlite://:memory:",
        "CELERY_BROKER_URL": "",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    import django
    from django.core.management import call_command

    django.setup()
    logging.getLogger().setLevel(logging.WARNING)
    call_command("migrate", verbosity=0)


def _request(made_up: bytes) -> tuple[dict[str, object], bytes]:
    wrong, kind, body = made_up[0], made_up[1], made_up[2:]
    if kind < len(CONTENT_TYPES):
        content_type = CONTENT_TYPES[kind]
    else:
        line, _, body = body.partition(b"\n")
        # Servers pass headers on as bytes in latin-1. Those in use refuse a NUL. Django itself would fail at one before
        # any view, because it looks for a codec of that name.
        content_type = line.strip(b"\r").replace(b"\x00", b"").decode("latin-1")
    environ: dict[str, object] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/kpwa/webhooks/{TOKEN}/",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "wsgi.url_scheme": "https",
        "wsgi.errors": sys.stderr,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
    }
    head = body[:200].decode("latin-1")
    environ |= {
        0: {"PATH_INFO": f"/kpwa/webhooks/{head}/"},
        1: {"PATH_INFO": head},
        2: {"CONTENT_LENGTH": head},
        3: {"CONTENT_LENGTH": str(len(body) + 1)},
        4: {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": head},
        5: {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
        6: {"REQUEST_METHOD": head},
        7: {"HTTP_AUTHORIZATION": head, "HTTP_X_WEBHOOK_PASSWORD": head, "QUERY_STRING": head, "HTTP_COOKIE": head},
    }.get(wrong, {})
    return environ, body


def _told_length(environ: dict[str, object], body: bytes) -> int:
    """The part of the body that its Content-Length lets a server read: all of it if the header is not a number."""
    try:
        return max(0, int(str(environ["CONTENT_LENGTH"])))
    except ValueError:
        return len(body)


def _input(kind: int, body: bytes) -> bytes:
    return bytes([255, kind]) + body


def _check_storable(value: object) -> None:
    """PostgreSQL accepts no NUL in a text, and no database accepts half of a surrogate pair."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            _check_storable(part)
    elif isinstance(value, str):
        assert "\x00" not in value
        value.encode()
    else:
        assert value is None or isinstance(value, bool)


def _message_in_doubt(license_, gateway_id: str) -> int:
    from django_kpwa.models import DatabaseNow, OutboundMessage, SendAttempt
    from django_kpwa.outbox import send_message

    message = send_message(NUMBER, TEXT, license=license_)
    OutboundMessage.objects.filter(pk=message.pk).update(status="unknown", reason="timeout")
    SendAttempt.objects.create(
        message=message, number=1, gateway_id=gateway_id, outcome="in_doubt", cause="timeout", started_at=DatabaseNow()
    )
    return message.pk


class _CollectingHandler(logging.Handler):
    """No request from outside may cause a log line, let alone an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Django's own lines, about hosts and about paths that are not ours.
        if not record.name.startswith("django."):
            self.lines.append(self.format(record))


def _write_dictionary(path: Path) -> None:
    """The words with a meaning to the parsers, which random input would not spell in an hour."""
    from django_kpwa.webhooks import fields, kinds, parsers

    words: set[str] = {NUMBER, SHOP, TEXT, "A1", "true", "null", "@g.us", "@c.us", "@lid", "\\u0000", "\\ud800", "--x"}
    for module in (fields, kinds, parsers):
        for value in vars(module).values():
            if isinstance(value, (tuple, frozenset)) and all(isinstance(word, str) for word in value):
                words |= set(value)
    words |= set(parsers._STATE_OF) | set(kinds._KIND_OF)
    lines = (json.dumps(f'"{word}"') for word in sorted(words) if word.isascii() and "\\" not in word)
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=None, help="where inputs that reach new code are kept")
    parser.add_argument("file", nargs="?", help="try this input alone")
    options = parser.parse_args()
    import atheris

    with atheris.instrument_imports(
        include=["django_kpwa.webhooks", "django_kpwa.phone"], enable_loader_override=False
    ):
        set_up()
        import tests.urls  # noqa: F401 - the view
    site = Site()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="kpwa-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:02}").write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    _write_dictionary(dictionary)
    arguments = [options.file] if options.file else [str(corpus), f"-max_total_time={options.seconds}"]
    # Its timeout uses wall-clock time, and the machine may be busy; MAX_SECONDS counts processor time.
    limits = [f"-max_len={MAX_BYTES}", "-timeout=120", "-rss_limit_mb=1024", f"-dict={dictionary}"]
    atheris.Setup(
        [sys.argv[0], *arguments, *limits, f"-artifact_prefix={corpus.parent}/", "-print_final_stats=1"],
        lambda made_up: len(made_up) < 2 or site.take(made_up),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
