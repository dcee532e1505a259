"""The contract of every webhook parser. A site inherits the test case for its own parser, and sets `parser_class`:

class TestMyParser(ParserCase):
    parser_class = MyParser
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_kpwa.webhooks import ParsedEvent, Parser

CONTENT_TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "image/png",
    "",
]

HOSTILE_BODIES = {
    "empty": b"",
    "white space": b" \r\n\t",
    "NUL": b"\x00" * 100,
    "broken UTF-8": b'{"id": "\xff\xfe", "from": "\xc3"',
    "binary": bytes(range(256)) * 4,
    "lone surrogate": rb'{"id": "\ud800", "from": "\udfff", "message": "\ud83d"}',
    "NUL in JSON": rb'{"id": "a\u0000b", "from": "6281234567890", "message": "\u0000"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"data":' * 100_000,
    "deep and closed": b'{"data":' * 5_000 + b"1" + b"}" * 5_000,
    "a huge integer": b'{"id": ' + b"9" * 5_000 + b"}",
    "not numbers": b'{"id": NaN, "from": Infinity, "status": -Infinity, "ack": 1e999, "message": 1.5}',
    "a list of everything": b'[null, 1, "x", [], {}, true]',
    "wrong types": b'{"id": [], "from": {}, "message": 5, "status": {}, "isGroup": "maybe", "data": 7, "phone": true}',
    "many form fields": b"a=b&" * 100_000,
    "many list items": b'{"data": [' + b'{"id":"1","ack":2},' * 50_000 + b'{"id":"1","ack":2}]}',
    "a long list": b"[" + b"{}," * 300_000 + b"{}]",
    "many multipart fields": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 10_000,
    "unclosed multipart": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb',
    "brackets": b"[[[]]]=1&data[[x]=2&data[from][x]=3&data[]=4&data=5&data[from]=6281234567890",
    "JSON in JSON": json.dumps({"data": json.dumps({"data": json.dumps({"data": "{" * 1000})})}).encode(),
    "a long number": b'{"from": "' + b"8" * 100_000 + b'", "message": "x"}',
}


NAMES = ["id", "from", "sender", "phone", "message", "data", "status", "ack", "isFromMe", "key", "to", "isGroup"]


class ParserCase:
    parser_class: type[Parser]

    def parse(self, body: bytes, content_type: str = "application/json", linked_number: str = "") -> list[ParsedEvent]:
        return self.parser_class().parse(body, content_type, linked_number=linked_number)

    @pytest.mark.parametrize("content_type", CONTENT_TYPES)
    @pytest.mark.parametrize("name", HOSTILE_BODIES)
    @pytest.mark.timeout(10)
    def test_nothing_that_is_posted_raises_or_is_unstorable(self, name, content_type):
        self._assert_storable(self.parse(HOSTILE_BODIES[name], content_type, "6281100000000"))

    @given(body=st.binary(max_size=300), content_type=st.sampled_from(CONTENT_TYPES))
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    def test_no_bytes_raise(self, body, content_type):
        self._assert_storable(self.parse(body, content_type))

    @given(
        payload=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(NAMES),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=15,
        )
    )
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    def test_no_json_raises(self, payload):
        self._assert_storable(self.parse(json.dumps(payload).encode(), linked_number="6281100000000"))

    def test_what_is_not_understood_is_an_empty_list(self):
        assert self.parse(b"") == []

    def _assert_storable(self, events: list[ParsedEvent]) -> None:
        assert isinstance(events, list)
        for event in events:
            assert isinstance(event, ParsedEvent)
            stored = json.dumps(event.as_json(), allow_nan=False, ensure_ascii=False)
            stored.encode()  # fails for half of a surrogate pair
            assert "\\u0000" not in stored
