"""What these tests send, and how the servers behave that answer."""

from __future__ import annotations

import time

from ..misbehaving import answer, response

KEY = "secret-key-4711"
NUMBER = "081234567890"
SENT = {
    "message": "Sent",
    "result": {
        "id": "3EB0A1",
        "body": "struk",
        "from": "6280000000000",
        "to": "6281234567890",
        "media_url": None,
        "created_at": "2016-11-05 10:00:00",
    },
    "code": 20001,
}


def send(gateway):
    return gateway.send_message(NUMBER, "struk")


def said(status, content, **options):
    return answer(content, status, **options)


def drip_headers(peer):
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 100)


def drip_body(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    peer.drip(b" " * 5000)


def drip_chunks(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"1\r\n \r\n" * 1000)


def continue_for_ever(peer):
    while True:
        peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.005)


def hang_up(peer):
    peer.hang_up()


def reset(peer):
    peer.reset()


def reset_in_the_headers(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    time.sleep(0.02)
    peer.reset()


def cut_the_body_short(peer):
    peer.send(response(SENT)[:-20])
    peer.hang_up()


def cut_a_chunk_short(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{")
    peer.hang_up()


def endless(head, piece):
    def pour(peer):
        peer.send(head)
        for _ in range(100 * 1024 * 1024 // len(piece)):
            peer.send(piece)

    return pour
