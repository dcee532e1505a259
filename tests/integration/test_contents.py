"""A message must have visible text or an image, and the gateway must be able to fetch the image."""

from __future__ import annotations

import pytest

from django_kpwa import receipts
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import InvalidImageUrlError, InvalidMessageError
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, OutboundMessage, Status
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from tests.shop.models import Sale

pytestmark = [pytest.mark.django_db]

NUMBER = "081234567890"


@pytest.fixture
def receipts_that_say():
    """Return a function that makes a sale for each given text and image, which its receipt contains.

    The function drives the lane and returns the messages.
    """

    class Said(receipts.Receipt):
        event = "said"

        def should_send(self, sale):
            return True

        def get_phone_number(self, sale):
            return NUMBER

        def get_occurred_at(self, sale):
            return sale.sold_at

        def render(self, sale, **context):
            return said[sale.pk][0]

        def get_image_url(self, sale):
            return said[sale.pk][1]

    said = {}

    def sell(license_, *contents):
        for content in contents:
            said[Sale.objects.create(status=Sale.Status.OPEN).pk] = content
        OutboundMessage.objects.update(due_at=DatabaseNow())
        drive(license_.pk)
        return list(OutboundMessage.objects.order_by("pk"))

    receipts.register(Sale)(Said)
    yield sell
    receipts.unregister(Said)


def test_each_line_break_is_a_line_feed_in_every_message(license_, receipts_that_say):
    typed, stored = "a\r\nb\rc\n\r\nd\r", "a\nb\nc\n\nd\n"
    assert send_message(NUMBER, typed).text == stored
    assert send_group_message("Dapur", typed).text == stored
    assert [message.text for message in send_messages([Message(NUMBER, typed)])] == [stored]
    OutboundMessage.objects.all().delete()
    [message] = receipts_that_say(license_, (typed, None))
    assert message.text == stored
    assert locmem.outbox[-1].text == stored


INVISIBLE = [
    "\u200b",
    "\ufeff",
    "\u2060\u200d",
    "\xad",
    "́",
    "́̂ ͏",
    "ㅤ",
    "ᅟᅠ",
    "ﾠ",
    "⠀",
    "\xa0\u3000\u2003",
    "\r\n\t",
    "\u202a\u202c",
    "️",
    "\U000e0020\U000e007f",
    "\u180e",
    "⠀\nㅤ\u200b",
    "\x01\x1b",
]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
def test_invisible_characters_alone_say_nothing(license_, receipts_that_say, text):
    with pytest.raises(InvalidMessageError, match="neither a visible text nor"):
        send_message(NUMBER, text)
    with pytest.raises(InvalidMessageError, match="neither a visible text nor"):
        send_group_message("Dapur", text)
    with pytest.raises(InvalidMessageError):
        send_group_message(text, "Stok habis")
    assert not OutboundMessage.objects.exists()
    [message] = receipts_that_say(license_, (text, None))
    assert (message.status, message.reason) == (Status.FAILED, "render_error")
    assert "neither a visible text nor an image" in message.reason_words
    assert locmem.outbox == []


@pytest.mark.parametrize("text", ["a\u0301", ".", "\U0001f64f", "\u200bHalo", "ﷺ", "-"])
def test_what_is_seen_is_sent_as_it_is(license_, text):
    assert send_message(NUMBER, text).text == text


def test_an_image_needs_no_text(license_, receipts_that_say):
    assert send_message(NUMBER, "\u200b", image_url="https://cdn.example/a.png").image_url
    OutboundMessage.objects.all().delete()
    [message] = receipts_that_say(license_, ("", "https://cdn.example/a.png"))
    assert message.status == Status.SENT


OUT_OF_REACH = [
    "localhost",
    "LOCALHOST.",
    "shop.localhost",
    "localhost.localdomain",
    "toko",
    "kasir.local",
    "metadata.google.internal",
    "nas.lan",
    "router.home.arpa",
    "web.test",
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0x7F.0x0.0x0.0x1",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.10",
    "169.254.169.254",
    "0.0.0.0",
    "0",
    "100.64.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[::127.0.0.1]",
    "[ff02::1]",
    "[2002:7f00:1::]",
    "[64:ff9b::7f00:1]",
    "[2001:db8::1]",
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "127%2e0%2e0%2e1",
    "3232235786",
    "1.2.3.4.5",
    "999.1.1.1",
    "0x7f.0.0.0x",
    "ｌｏｃａｌｈｏｓｔ",
]


@pytest.mark.parametrize("port", ["", ":8000"])
def test_an_image_that_only_this_machine_could_reach_is_refused(license_, receipts_that_say, port):
    urls = [f"http://{host}{port}/logo.png" for host in OUT_OF_REACH]
    for url in urls:
        with pytest.raises(InvalidImageUrlError):
            pytest.fail(f"{url} was accepted: {send_message(NUMBER, 'Struk', image_url=url)}")
    assert not OutboundMessage.objects.exists()
    messages = receipts_that_say(license_, *(("Struk", url) for url in urls))
    taken = [url for url, message in zip(urls, messages, strict=True) if message.status != Status.FAILED]
    assert taken == []
    assert locmem.outbox == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "toko", "[::1]"])
def test_in_development_it_is_accepted(license_, settings, host):
    settings.DEBUG = True
    assert send_message(NUMBER, "Struk", image_url=f"http://{host}/logo.png").image_url


@pytest.mark.parametrize(
    "host",
    [
        "shop.example",
        "cdn.shop.example:8443",
        "203.0.114.7",
        "8.8.8.8",
        "[2606:4700::1111]",
        "xn--toko-5ua.example",
        "kopi.local.example",
        "10.example.com",
        "localhost.example.com",
        "1and1.com",
        "[64:ff9b::808:808]",
    ],
)
def test_an_image_on_the_internet_is_accepted(license_, host):
    assert send_message(NUMBER, "Struk", image_url=f"https://{host}/logo.png").image_url


def test_a_backslash_does_not_hide_the_host(license_):
    with pytest.raises(InvalidImageUrlError):
        send_message(NUMBER, "Struk", image_url="http://shop.example\\@127.0.0.1/logo.png")
