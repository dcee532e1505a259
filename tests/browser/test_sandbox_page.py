"""The simulated phone in a real browser: messages without reload, answers, ticks, the QR code and manual faults."""

from __future__ import annotations

import json

import pytest
import requests

from tests.contract.gateway_case import scanned
from tests.sandbox import SandboxProcess

pytestmark = pytest.mark.browser
NUMBER = "6281234567890"


@pytest.fixture(scope="module")
def process():
    with SandboxProcess("--linked", "--group", "Dapur") as process:
        yield process


@pytest.fixture
def sandbox(process):
    process.reset()
    process.scan()
    return process


@pytest.fixture
def browser(chromium):
    chromium.errors.clear()
    yield chromium
    assert chromium.errors == []


def send(sandbox, text):
    content, headers = {"phoneNumber": NUMBER, "message": text}, {"X-API-KEY": sandbox.key}
    answer = requests.post(f"{sandbox.base_url}/openapi/wa/message", content, headers=headers, timeout=10)
    assert answer.ok


def test_a_message_appears_without_reloading_and_is_answered_and_read(sandbox, browser):
    browser.open(f"{sandbox.url}/")
    browser.wait_for("document.querySelector('.chat-row')")  # the group
    send(sandbox, "Total *Rp 75.500*")
    browser.wait_for("document.querySelector('.unread .chat-row')")
    browser.click(".unread .chat-row")
    assert browser.wait_for("document.querySelector('.bubble.ours strong')?.textContent") == "Rp 75.500"
    browser.wait_for("document.querySelector('.bubble.ours .ticks.read')")
    browser.click("#answer")
    browser.type("terima kasih\n")
    assert browser.wait_for("document.querySelector('.bubble.theirs .text')?.textContent") == "terima kasih"
    assert sandbox.state(chat=NUMBER)["chat"]["messages"][-1]["text"] == "terima kasih"


def test_in_a_frame_the_phone_opens_a_message_that_has_just_come(sandbox, browser):
    browser.open(f"{sandbox.url}/?embed=1", width=420, height=860)
    browser.wait_for("document.querySelector('.chat-row')")
    send(sandbox, "Struk")
    assert browser.wait_for("document.querySelector('.bubble.ours .text')?.textContent") == "Struk"


def test_nothing_that_is_written_becomes_markup_or_runs(sandbox, browser):
    hostile = '<img src=x onerror="window.broken = 1"> *<b>bold</b>* `<i>` [a](javascript:alert(1)) javascript:alert(1)'
    send(sandbox, hostile)
    sandbox.answer(hostile, chat=NUMBER)
    browser.open(f"{sandbox.url}/?chat={NUMBER}")
    browser.wait_for("document.querySelectorAll('.bubble').length === 2")
    assert browser.evaluate("document.querySelectorAll('.bubble img, .bubble b, .bubble i, .bubble a').length") == 0
    assert browser.evaluate("document.querySelector('.bubble .text strong').textContent") == "<b>bold</b>"
    assert browser.evaluate("window.broken") is None


FORMATTING = [
    ("*bold* _italic_ ~struck~", "<strong>bold</strong> <em>italic</em> <s>struck</s>"),
    ("*_both_*", "<strong><em>both</em></strong>"),
    ("`code *plain*`", "<code>code *plain*</code>"),
    ("```a  b\nc```", "<pre>a  b\nc</pre>"),
    ("Struk\n```\na\n```\nTerima kasih", "Struk<pre>a</pre>Terima kasih"),
    ("2*3*4 snake_case_name", "2*3*4 snake_case_name"),
    ("* not bold * and *not\nbold*", "* not bold * and *not\nbold*"),
    ("```open", "```open"),
    ("(*bold*).", "(<strong>bold</strong>)."),
]


@pytest.mark.parametrize(("text", "html"), FORMATTING)
def test_formatting_is_whatsapps(sandbox, browser, text, html):
    browser.open(f"{sandbox.url}/")
    drawing = "const d = document.createElement('div'); d.append(formatted(text)); return d.innerHTML;"
    drawn = f"(text => {{ {drawing} }})({json.dumps(text)})"
    assert browser.evaluate(drawn) == html


def test_links_are_links_to_http_alone_and_tell_nothing_of_the_page(sandbox, browser):
    send(sandbox, "Lihat https://toko.example/p/42?a=1&b=2. Terima kasih")
    browser.open(f"{sandbox.url}/?chat={NUMBER}")
    browser.wait_for("document.querySelector('.bubble a')")
    link = browser.evaluate("(() => { const a = document.querySelector('.bubble a'); return [a.href, a.rel]; })()")
    assert link == ["https://toko.example/p/42?a=1&b=2", "noopener noreferrer"]


def test_the_phone_is_linked_and_logged_out_by_hand(sandbox, browser):
    browser.open(f"{sandbox.url}/")
    browser.click("#open-menu")
    browser.click("#log-out")
    browser.wait_for("document.querySelector('#qr').complete && document.querySelector('#qr').naturalWidth > 100")
    assert scanned(browser.screenshot()).startswith("2@")
    browser.click("#scan")
    browser.wait_for("document.querySelector('#screen').dataset.view === 'chats'")
    assert sandbox.state()["licenses"][0]["linked"]


def test_a_chat_and_a_group_are_started_by_hand(sandbox, browser):
    browser.open(f"{sandbox.url}/")
    browser.click("#open-new")
    browser.click("#new-group-name")
    browser.type("Kasir pagi\n")
    browser.wait_for("[...document.querySelectorAll('.chat-row .name')].some(n => n.textContent === 'Kasir pagi')")
    browser.click("#open-new")
    browser.click("#new-number")
    browser.type("0812-3456-7890\n")
    browser.wait_for("document.querySelector('#screen').dataset.view === 'chat'")
    browser.click("#answer")
    browser.type("halo\n")
    sandbox.wait_until(lambda state: any(chat["id"] == NUMBER for chat in state["chats"]), what="the new chat")


def test_a_fault_is_switched_by_hand_and_what_it_did_is_in_the_log(sandbox, browser):
    browser.open(f"{sandbox.url}/")
    browser.wait_for("document.querySelector('#faults input')")
    slider = "document.querySelector('#faults input[aria-label^=\"error_500\"]')"
    browser.evaluate(f"(() => {{ {slider}.value = 100; {slider}.dispatchEvent(new Event('change')); }})()")
    sandbox.wait_until(lambda state: any(fault["probability"] == 1 for fault in state["faults"]), what="the fault")
    answer = requests.post(f"{sandbox.base_url}/openapi/wa/status", headers={"X-API-KEY": sandbox.key}, timeout=10)
    assert answer.status_code == 500
    assert browser.wait_for("document.querySelector('.log .fault-tag')?.textContent") == "error_500"
    browser.click("#clear-faults")
    sandbox.wait_until(lambda state: not any(fault["probability"] for fault in state["faults"]), what="no faults")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_cut_off_at_any_width(sandbox, browser, width):
    send(sandbox, "```" + "-" * 32 + "```")
    browser.open(f"{sandbox.url}/?chat={NUMBER}", width=width, height=800)
    browser.wait_for("document.querySelector('.bubble pre')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # The 32 columns of a receipt fit without scrolling.
    assert (
        browser.evaluate(
            "(() => { const p = document.querySelector('.bubble pre'); return p.scrollWidth - p.clientWidth; })()"
        )
        <= 0
    )


def test_the_phone_says_so_when_the_sandbox_is_gone_and_goes_on_when_it_is_back(browser):
    sandbox = SandboxProcess("--linked")
    sandbox.start()
    try:
        browser.open(f"{sandbox.url}/")
        browser.wait_for("document.querySelector('#screen').dataset.view === 'chats'")
        sandbox.stop()
        browser.wait_for("document.querySelector('#screen.offline')")
        sandbox.start()
        browser.wait_for("!document.querySelector('#screen.offline') || null")
        send(sandbox, "Struk")
        browser.wait_for("document.querySelector('.unread .chat-row')")
    finally:
        sandbox.stop()
    browser.errors[:] = [
        error for error in browser.errors if "ERR_CONNECTION" not in error and "ERR_EMPTY" not in error
    ]
