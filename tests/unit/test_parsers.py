"""How the default parser reads the payloads that gateways of this family post."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from django_kpwa.models import EventKind
from django_kpwa.webhooks import DefaultParser, ParsedEvent
from django_kpwa.webhooks.parsers import DeliveryState
from django_kpwa.webhooks.payloads import MAX_EVENTS
from tests.contract.parser_case import ParserCase

SHOP = "6281100000001"
CUSTOMER = "6281234567890"


class TestDefaultParserKeepsTheContract(ParserCase):
    parser_class = DefaultParser


def parse_all(payload, content_type="application/json", linked_number=SHOP):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return DefaultParser().parse(body, content_type, linked_number=linked_number)


def parse(payload, content_type="application/json", linked_number=SHOP) -> ParsedEvent:
    (event,) = parse_all(payload, content_type, linked_number)
    return event


@pytest.mark.parametrize(
    "payload",
    [
        {"from": CUSTOMER, "message": "halo", "id": "A1"},
        {"sender": CUSTOMER, "body": "halo", "message_id": "A1"},
        {"phone": CUSTOMER, "text": "halo", "id_message": "A1"},
        {"phone_no": "0812 3456 7890", "message": "halo", "inboxid": "A1"},
        {"data": {"from": CUSTOMER, "message": "halo", "message_id": "A1"}},
        {"data": {"phone_number": f"+{CUSTOMER}", "message_body": "halo", "message_id": "A1"}},
        {"event": "message", "id": "envelope", "data": {"from": CUSTOMER, "message": "halo", "id": "A1"}},
        {"device": SHOP, "sender": CUSTOMER, "message": "halo", "id": "A1"},
        {"phone": CUSTOMER, "sender": SHOP, "message": "halo", "id": "A1", "isFromMe": False},
        {
            "key": {"id": "A1", "fromMe": False, "remoteJid": f"{CUSTOMER}@s.whatsapp.net"},
            "message": {"conversation": "halo"},
        },
        {
            "id": {"fromMe": False, "_serialized": "A1"},
            "from": f"{CUSTOMER}@c.us",
            "to": f"{SHOP}@c.us",
            "body": "halo",
            "ack": 1,
        },
        {"messages": [{"id": "A1", "from": CUSTOMER, "text": {"body": "halo"}, "message": "halo"}]},
        {"data": json.dumps({"id": "A1", "from": CUSTOMER, "message": "halo"})},
        {"status": True, "data": {"id": "A1", "from": CUSTOMER, "message": "halo"}},
    ],
)
def test_every_known_spelling_of_a_customers_message_is_read(payload):
    event = parse(payload)
    assert (event.kind, event.sender, event.text, event.gateway_id) == (EventKind.INCOMING, CUSTOMER, "halo", "A1")
    assert event.sender_is_certain


FIELDS = {"id": "A1", "from": CUSTOMER, "message": "harga 5% + ongkir & pajak = berapa?"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(FIELDS).encode(), "application/json"),
        (b"\xef\xbb\xbf" + json.dumps(FIELDS).encode(), "application/json; charset=utf-8"),
        (json.dumps(FIELDS).encode(), "application/x-www-form-urlencoded"),
        (json.dumps(FIELDS).encode(), ""),
        (urlencode(FIELDS).encode(), "application/x-www-form-urlencoded"),
        (urlencode(FIELDS).encode(), "text/plain"),
        (
            urlencode({f"data[{name}]": value for name, value in FIELDS.items()}).encode(),
            "application/x-www-form-urlencoded",
        ),
        (urlencode({"data": json.dumps(FIELDS)}).encode(), "application/x-www-form-urlencoded"),
        (
            b"".join(
                f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                for name, value in FIELDS.items()
            )
            + b'--xYz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--xYz--\r\n',
            'multipart/form-data; boundary="xYz"',
        ),
    ],
)
def test_a_body_is_read_by_what_it_is(body, content_type):
    event = parse(body, content_type)
    assert (event.kind, event.sender, event.text) == (EventKind.INCOMING, CUSTOMER, FIELDS["message"])


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        ({"id": "A1", "status": "Sent"}, DeliveryState.SENT),
        ({"id": "A1", "status": "Delivered"}, DeliveryState.DELIVERED),
        ({"id": "A1", "status": "Read"}, DeliveryState.READ),
        ({"id": "A1", "status": "Failed"}, DeliveryState.FAILED),
        ({"id": "A1", "status": "undelivered"}, DeliveryState.FAILED),
        ({"id": "A1", "status": "Pending"}, DeliveryState.PENDING),
        ({"id": "A1", "state": "SERVER_ACK"}, DeliveryState.SENT),
        ({"id": "A1", "state": "DELIVERY_ACK"}, DeliveryState.DELIVERED),
        ({"id": "A1", "status": "READ"}, DeliveryState.READ),
        ({"id": "A1", "status": "PLAYED"}, DeliveryState.READ),
        *(
            ({"id": "A1", "ack": number}, state)
            for number, state in [
                (-1, DeliveryState.FAILED),
                (0, DeliveryState.PENDING),
                (1, DeliveryState.SENT),
                (2, DeliveryState.DELIVERED),
                (3, DeliveryState.READ),
                (4, DeliveryState.READ),
                ("2", DeliveryState.DELIVERED),
            ]
        ),
        *(
            ({"id": "A1", **said}, DeliveryState.FAILED)
            for said in [
                {"ack": "-1"},
                {"ack": [-1]},
                {"ack": {"value": -1}},
                {"ackName": "ERROR"},
                {"status": -1},
                {"status": " -1 "},
                {"status": "ERROR"},
                {"status": "Error: 463"},
                {"status": "failed (463)"},
                {"status": ["failed"]},
                {"status": {"code": -1, "name": "failed"}},
                {"status": "UNDELIVERABLE"},
                {"state": "not delivered"},
                {"state": "DELIVERY_FAILED"},
                {"deliveryStatus": "rejected"},
                {"status": "failed", "session_status": "connected", "device": SHOP},
            ]
        ),
        ({"id": "A1", "ack": 2, "account": {"status": "banned"}, "session": "toko"}, DeliveryState.DELIVERED),
        ({"status": "ok", "data": {"message_id": "A1", "ack": 3}}, DeliveryState.READ),
        ({"id": "A1", "status": "Delivered", "phone": CUSTOMER, "message": "Terima kasih"}, DeliveryState.DELIVERED),
    ],
)
def test_every_known_spelling_of_a_state_is_read(payload, state):
    event = parse(payload)
    assert (event.kind, event.state, event.gateway_id) == (EventKind.STATE, state, "A1")


@pytest.mark.parametrize("linked_number", [SHOP, ""])
@pytest.mark.parametrize(
    "payload",
    [
        {"id": "A1", "isFromMe": True, "phone": CUSTOMER, "sender": SHOP, "message": "Terima kasih"},
        {"id": "A1", "from_me": 1, "from": SHOP, "to": CUSTOMER, "message": "Terima kasih"},
        {"id": "A1", "isFromMe": "true", "phone": CUSTOMER, "message": "Terima kasih"},
        {
            "key": {"id": "A1", "fromMe": True, "remoteJid": f"{CUSTOMER}@s.whatsapp.net"},
            "message": {"conversation": "Terima kasih"},
        },
    ],
)
def test_the_shops_own_message_coming_back_is_known_by_its_flag(payload, linked_number):
    event = parse(payload, linked_number=linked_number)
    assert (event.kind, event.is_own, event.text) == (EventKind.OWN, True, "Terima kasih")
    assert event.recipient == CUSTOMER or not linked_number
    assert event.sender == ""


@pytest.mark.parametrize(
    "payload",
    [
        {"from": SHOP, "to": CUSTOMER, "message": "x"},
        {"from": f"{SHOP}:12@s.whatsapp.net", "to": CUSTOMER, "message": "x"},
        {"sender": SHOP, "to": CUSTOMER, "message": "x"},
        {"sender": SHOP, "message": "x"},
        {"phone": SHOP, "message": "x"},
        {"from": "120363@g.us", "isGroup": True, "member": SHOP, "message": "x"},
    ],
)
def test_a_message_from_the_linked_number_is_never_a_customers(payload):
    event = parse(payload)
    assert (event.kind, event.is_own) == (EventKind.OWN, True)


def test_a_payload_that_denies_to_be_the_shops_own_is_never_taken_for_it():
    """If it still comes from the linked number, it belongs to nobody, and a person must look at it."""
    assert parse_all({"from": SHOP, "isFromMe": False, "to": CUSTOMER, "message": "x"}) == []
    hidden = {"from": "98765432101234@lid", "sender": SHOP, "fromMe": False, "message": "x"}
    assert parse(hidden).kind == EventKind.INCOMING
    assert parse(hidden).sender == ""


def test_the_field_sender_is_decided_by_the_licenses_own_number():
    as_customer = {"sender": CUSTOMER, "phone": SHOP, "message": "x"}
    as_device = {"sender": SHOP, "phone": CUSTOMER, "message": "x"}
    for payload in (as_customer, as_device):
        event = parse(payload)
        assert (event.kind, event.sender, event.sender_is_certain) == (EventKind.INCOMING, CUSTOMER, True)


def test_an_ambiguous_sender_is_said_so_while_the_own_number_is_unknown():
    alone = parse({"sender": CUSTOMER, "message": "x"}, linked_number="")
    beside = parse({"sender": SHOP, "phone": CUSTOMER, "message": "x"}, linked_number="")
    assert (alone.sender, alone.sender_is_certain) == (CUSTOMER, False)
    assert (beside.sender, beside.sender_is_certain) == (CUSTOMER, False)
    assert "ambiguous" in alone.notes


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (f"{CUSTOMER}@s.whatsapp.net", CUSTOMER),
        (f"{CUSTOMER}@c.us", CUSTOMER),
        (f"{CUSTOMER}:12@s.whatsapp.net", CUSTOMER),
        (f"{CUSTOMER}.0:12@s.whatsapp.net", CUSTOMER),
        ("0812-3456-7890", CUSTOMER),
        (f"+{CUSTOMER}", CUSTOMER),
        (int(CUSTOMER), CUSTOMER),
    ],
)
def test_numbers_are_read_in_every_spelling(written, number):
    assert parse({"from": written, "message": "x"}).sender == number


def test_a_lid_is_no_number_but_the_chat_is_kept():
    event = parse({"from": "98765432101234@lid", "message": "x", "id": "A1"})
    assert (event.kind, event.sender, event.chat) == (EventKind.INCOMING, "", "98765432101234@lid")


@pytest.mark.parametrize(
    "payload",
    [
        {"from": "1203630@g.us", "member": CUSTOMER, "isGroup": True, "group": "Dapur", "message": "siap"},
        {"sender": "1203630@g.us", "member": f"{CUSTOMER}@s.whatsapp.net", "group": "Dapur", "message": "siap"},
        {
            "key": {"remoteJid": "1203630@g.us", "participant": f"{CUSTOMER}@s.whatsapp.net"},
            "groupName": "Dapur",
            "text": "siap",
        },
    ],
)
def test_in_a_group_the_sender_is_the_member(payload):
    event = parse(payload)
    assert (event.kind, event.is_group, event.sender) == (EventKind.INCOMING, True, CUSTOMER)
    assert (event.group, event.chat) == ("Dapur", "1203630@g.us")


@pytest.mark.parametrize("word", ["qr", "connected", "disconnected", "Logged Out", "disconnect"])
def test_the_state_of_the_session_is_read(word):
    event = parse({"device": SHOP, "status": word, "message": "about the device"})
    assert (event.kind, event.session_status) == (EventKind.SESSION, word)


def test_a_customers_text_is_never_taken_for_anything_else():
    for text in [
        '{"id": "A1", "status": "Delivered", "isFromMe": true}',
        "connected",
        "Delivered",
        "data[status]=Read",
    ]:
        event = parse({"from": CUSTOMER, "message": text, "id": "B2"})
        assert (event.kind, event.text, event.gateway_id) == (EventKind.INCOMING, text, "B2")
        form = urlencode({"from": CUSTOMER, "message": text, "id": "B2"}).encode()
        assert parse(form, "application/x-www-form-urlencoded") == event


def test_a_customers_message_may_carry_an_acknowledgement_of_its_own():
    assert parse({"from": CUSTOMER, "body": "x", "ack": 1, "id": "A1"}).kind == EventKind.INCOMING
    assert parse({"phone": CUSTOMER, "message": "x", "status": 2, "id": "A1"}).kind == EventKind.INCOMING
    assert parse({"from": CUSTOMER, "message": "x", "status": "Pending", "id": "A1"}).kind == EventKind.INCOMING


def test_a_status_story_or_channel_post_is_no_message_to_the_shop():
    assert parse_all({"from": "status@broadcast", "participant": CUSTOMER, "message": "x"}) == []
    assert parse_all({"from": "12036@newsletter", "message": "x"}) == []


def test_one_payload_may_carry_several_events():
    events = parse_all({"device": SHOP, "data": [{"id": "A1", "ack": 2}, {"id": "A2", "ack": 3}]})
    assert [(event.gateway_id, event.state) for event in events] == [
        ("A1", DeliveryState.DELIVERED),
        ("A2", DeliveryState.READ),
    ]
    assert len(parse_all([{"id": "A1", "ack": 2}, {"id": "A2", "ack": 2}])) == 2


def test_a_payload_with_too_many_events_is_not_understood_rather_than_cut():
    assert len(parse_all([{"id": str(number), "ack": 2} for number in range(MAX_EVENTS)])) == MAX_EVENTS
    assert parse_all({"data": [{"id": str(number), "ack": 2} for number in range(MAX_EVENTS + 1)]}) == []


def test_media_and_time_are_kept():
    event = parse(
        {"from": CUSTOMER, "url": "https://cdn.example/a.jpg", "timestamp": 1700000000, "message": ""},
    )
    assert (event.kind, event.media_url, event.occurred_at) == (
        EventKind.INCOMING,
        "https://cdn.example/a.jpg",
        "1700000000",
    )


@pytest.mark.parametrize(
    "payload",
    [{}, {"message": "nobody wrote this"}, {"status": "Delivered"}, {"id": "A1"}, {"from": CUSTOMER}, [], 5, "x"],
)
def test_what_says_too_little_is_not_understood(payload):
    assert parse_all(payload) == []


def test_a_parsed_event_is_storable_whatever_a_parser_puts_into_it():
    event = ParsedEvent(EventKind.INCOMING, text="a\x00b\ud800c", gateway_id="x" * 1000)
    assert event.text == "a\ufffdb\ufffdc"
    assert len(event.gateway_id) == 255


@pytest.mark.parametrize(
    "wrong", [{"text": None}, {"gateway_id": 5}, {"is_group": "yes"}, {"is_own": 1}, {"state": "read"}]
)
def test_a_parsed_event_refuses_other_types_with_the_fields_name(wrong):
    with pytest.raises(TypeError, match=next(iter(wrong))):
        ParsedEvent(EventKind.INCOMING, **wrong)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"error": "no route to the phone"}, "no route to the phone"),
        ({"reason": "blocked", "error": True}, "blocked"),
        ({"failure_reason": "blocked", "error_code": 463}, "blocked, 463"),
        ({"error": {"code": 463, "message": "reach-out time-lock"}}, "reach-out time-lock, 463"),
        ({"errors": [{"code": 131026, "title": "Message undeliverable"}]}, "Message undeliverable, 131026"),
        ({"errors": [{"title": "Blocked", "code": 1}, {"title": "never mind"}]}, "Blocked, 1"),
        ({"error": {"code": 463}}, "463"),
        ({"errorCode": 463}, "463"),
        ({"code": 463}, "463"),
        ({"reason": "not allowed", "statusCode": 463}, "not allowed, 463"),
        ({"messageStubParameters": ["463"]}, "463"),
        ({"messageStubParameters": ["463", "reach-out time-lock"]}, "463, reach-out time-lock"),
        ({"detail": "akun dibatasi"}, "akun dibatasi"),
        ({"status": "error 463"}, "error 463"),
        ({"code": 200}, ""),
        ({"code": -1}, ""),
        ({"message": "Struk 463: barang dibatasi"}, ""),
        ({"error": True}, ""),
        ({"errors": []}, ""),
        ({"error": None}, ""),
        ({}, ""),
    ],
)
def test_why_a_message_was_not_delivered_is_read_under_many_names(payload, words):
    body = json.dumps({"event": "message.ack", "id": "A1", "ack": -1, **payload}).encode()
    [event] = DefaultParser().parse(body, "application/json", linked_number="")
    assert (event.state, event.state_words) == (DeliveryState.FAILED, words)


def test_a_state_is_never_said_to_be_of_a_message_to_the_shop_itself():
    event = parse({"event": "message.ack", "id": "A1", "ack": -1, "fromMe": True}, linked_number=SHOP)
    assert (event.kind, event.is_own, event.recipient) == (EventKind.STATE, True, "")


def test_words_of_a_state_that_is_no_failure_are_not_kept():
    body = json.dumps({"event": "message.ack", "id": "A1", "ack": 2, "reason": "none"}).encode()
    [event] = DefaultParser().parse(body, "application/json", linked_number="")
    assert (event.state, event.state_words) == (DeliveryState.DELIVERED, "")
