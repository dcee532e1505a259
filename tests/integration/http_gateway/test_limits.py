"""Answers that are endless, too large or packed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from django_kpwa.exceptions import ConnectionLostError, UnexpectedAnswerError
from django_kpwa.gateway import SessionStatus

from ..misbehaving import answer
from .peers import endless, send


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"a" * 60000 + b"\r\n"),
        endless(b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\n\r\n", b" " * 65536),
    ],
    ids=["length", "huge-length", "no-length", "chunks", "chunk-size", "headers", "redirect"],
)
def test_a_hundred_megabytes_are_cut_off_without_filling_the_memory(server, gateway, behaviour):
    server.behave(behaviour)
    tracemalloc.start()
    try:
        with pytest.raises((UnexpectedAnswerError, ConnectionLostError)):
            send(gateway)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compression_bomb_is_cut_off_without_filling_the_memory(server, gateway, encoding):
    bomb = (gzip if encoding == "gzip" else zlib).compress(b" " * 60_000_000)
    assert len(bomb) < 100_000
    server.behave(answer(body=bomb, headers={"Content-Encoding": encoding}))
    tracemalloc.start()
    try:
        with pytest.raises(UnexpectedAnswerError, match="longer than"):
            send(gateway)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_answer_is_read(server, gateway, encoding):
    packed = (gzip if encoding == "gzip" else zlib).compress(b'{"message": "OK", "status": "qr", "code": null}')
    server.behave(answer(body=packed, headers={"Content-Encoding": encoding}))
    assert gateway.get_status().session_status is SessionStatus.QR


@pytest.mark.parametrize(
    ("body", "encoding"), [(gzip.compress(b"{}" * 500, mtime=0)[:-12], "gzip"), (b"not gzip", "gzip"), (b"{}", "br")]
)
def test_a_packed_answer_that_cannot_be_unpacked_is_unexpected(server, gateway, body, encoding):
    server.behave(answer(body=body, headers={"Content-Encoding": encoding}))
    with pytest.raises(UnexpectedAnswerError):
        send(gateway)


def test_an_answer_of_just_the_cap_is_read(server, gateway):
    body = b'{"message": "OK", "status": "qr", "code": null}'
    server.behave(answer(body=body.ljust(100_000)), answer(body=body.ljust(100_001)))
    assert gateway.get_status().word == "qr"
    with pytest.raises(UnexpectedAnswerError):
        gateway.get_status()
