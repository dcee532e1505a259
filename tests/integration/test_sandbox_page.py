"""The sandbox's page, and the JSON that the page and the tests read."""

from __future__ import annotations

import re
import threading
import time

import pytest
import requests

from tests.contract.gateway_case import scanned
from tests.sandbox import SandboxProcess

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


def send(sandbox, text="Struk", **content):
    content = {"phoneNumber": NUMBER, "message": text, **content}
    headers = {"X-API-KEY": sandbox.key}
    answer = requests.post(f"{sandbox.base_url}/openapi/wa/message", content, headers=headers, timeout=10)
    assert answer.ok, answer.text
    return answer.json()["result"]["id"]


@pytest.mark.parametrize("address", ["/", "/?embed=1"])
def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code(sandbox, address):
    page = requests.get(f"{sandbox.url}{address}", timeout=10)
    assert page.ok
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.text)
    loaded = re.findall(r'<(?:link|script)[^>]*(?:href|src)="([^"]+)"', page.text)
    assert loaded
    for path in loaded:
        assert path.startswith("/sandbox/static/")
        assert requests.get(f"{sandbox.url}{path}", timeout=10).ok


def test_the_embedded_page_may_be_framed_and_has_no_panels(sandbox):
    page = requests.get(f"{sandbox.url}/?embed=1", timeout=10)
    assert "X-Frame-Options" not in page.headers
    assert "frame-ancestors" not in page.headers["Content-Security-Policy"]
    assert "Faults" not in page.text


def test_the_state_waits_for_a_change_and_tells_it_at_once(sandbox):
    version = sandbox.state()["version"]
    timer = threading.Timer(0.3, send, (sandbox,))
    timer.start()
    started_at = time.monotonic()
    state = requests.get(f"{sandbox.url}/sandbox/api/state?since={version}&wait=10", timeout=20).json()
    timer.join()
    assert 0.2 < time.monotonic() - started_at < 3
    assert state["version"] > version
    assert state["deliveries"] == 1


def test_a_chat_shows_both_sides_and_the_ticks(sandbox):
    message_id = send(sandbox, "*Struk*", imageUrl="https://shop.example/a.png")
    sandbox.wait_until(
        lambda state: state["chat"]["messages"][0]["ticks"] == "delivered", what="the delivered tick", chat=NUMBER
    )
    assert sandbox.state()["chats"][0]["unread"] == 1
    sandbox.answer("terima kasih", chat=NUMBER)
    ours, theirs = sandbox.state(chat=NUMBER)["chat"]["messages"]
    assert (ours["id"], ours["text"], ours["image_url"]) == (message_id, "*Struk*", "https://shop.example/a.png")
    assert (ours["ticks"], ours["sender"]) == ("read", "")
    assert (theirs["text"], theirs["ticks"], theirs["sender"]) == ("terima kasih", "", NUMBER)
    assert sandbox.state()["chats"][0]["unread"] == 0


def test_one_message_alone_can_be_read(sandbox):
    first, second = send(sandbox, "satu"), send(sandbox, "dua")
    sandbox.read(id=second)
    ticks = {each["id"]: each["ticks"] for each in sandbox.state(chat=NUMBER)["chat"]["messages"]}
    assert ticks[second] == "read"
    assert ticks[first] != "read"


def test_the_ledger_has_every_delivery_in_order_and_can_be_read_from_a_point(sandbox):
    ids = [send(sandbox, f"Struk {number}") for number in range(5)]
    ledger = sandbox.ledger()
    assert [entry["id"] for entry in ledger] == ids
    assert [entry["sequence"] for entry in ledger] == [1, 2, 3, 4, 5]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", ledger[0]["accepted_at"])
    assert set(ledger[0]) == {
        *("sequence", "id", "license", "recipient", "group", "text", "image_url", "is_cold", "accepted_at"),
    }
    assert sandbox.ledger(after=3) == ledger[3:]


def test_deliveries_from_many_threads_are_all_in_the_ledger_once(sandbox):
    sent: list[str] = []
    threads = [
        threading.Thread(target=lambda: sent.extend(send(sandbox) for _ in range(10)), daemon=True) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry["id"] for entry in sandbox.ledger()) == sorted(sent)
    assert len(set(sent)) == 80


def test_the_qr_on_the_page_can_be_scanned_and_is_gone_once_linked(sandbox):
    sandbox.logout()
    (license,) = sandbox.state()["licenses"]
    image = requests.get(f"{sandbox.url}{license['qr_url']}", timeout=10)
    assert image.headers["Cache-Control"] == "no-store"
    assert scanned(image.content).startswith("2@")
    sandbox.scan()
    (license,) = sandbox.state()["licenses"]
    assert (license["linked"], license["qr_url"]) == (True, "")


def test_the_log_shows_requests_without_keys_and_numbers(sandbox):
    headers = {"X-API-KEY": sandbox.key}
    requests.get(f"{sandbox.base_url}/openapi/wa/check-number/{NUMBER}", headers=headers, timeout=10)
    requests.post(f"{sandbox.base_url}/openapi/wa/status", headers={"X-API-KEY": "wrong-key"}, timeout=10)
    known, unknown = sandbox.log()[-2:]
    assert (known["method"], known["operation"], known["status"], known["license"]) == (
        *("GET", "check-number", 200, "sandbox"),
    )
    assert (unknown["operation"], unknown["status"], unknown["license"]) == ("status", 401, "")
    assert not re.search(rf"{NUMBER}|{sandbox.key}|wrong-key", str([known, unknown]))


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=["another origin", "an opaque origin", "cross-site"],
)
def test_another_sites_page_changes_nothing(sandbox, headers):
    for method, path in (("POST", "logout"), ("PUT", "faults"), ("DELETE", "faults"), ("POST", "reset")):
        answer = requests.request(method, f"{sandbox.url}/sandbox/api/{path}", json={}, headers=headers, timeout=10)
        assert answer.status_code == 403
    assert sandbox.state()["licenses"][0]["linked"]


def test_its_own_page_may_change_things(sandbox):
    answer = requests.post(f"{sandbox.url}/sandbox/api/logout", headers={"Origin": sandbox.url}, timeout=10)
    assert answer.ok
    assert not sandbox.state()["licenses"][0]["linked"]


def test_a_name_that_only_resolves_to_this_machine_is_refused(sandbox):
    answer = requests.get(f"{sandbox.url}/sandbox/api/state", headers={"Host": "rebound.example"}, timeout=10)
    assert answer.status_code == 400
    assert "chats" not in answer.text


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("nothing", {}, 404),
        ("scan", {"license": "Nobody"}, 404),
        ("scan", {"licence": "sandbox"}, 400),
        ("scan", {"license": 5}, 400),
        ("scan", ["sandbox"], 400),
        ("answer", {"chat": NUMBER}, 400),
        ("answer", {"chat": NUMBER, "text": " "}, 400),
        ("answer", {"chat": "nobody", "text": "halo"}, 404),
        ("answer", {"group": "Nobody", "text": "halo"}, 404),
        ("read", {"chat": "628000000"}, 404),
        ("delivered", {"id": "none"}, 404),
        ("groups", {"name": " "}, 400),
        ("registered", {"number": NUMBER, "registered": "no"}, 400),
        ("unlinked-status", {"status": 418}, 400),
    ],
)
def test_what_cannot_be_done_is_said_in_json(sandbox, path, content, status):
    answer = requests.post(f"{sandbox.url}/sandbox/api/{path}", json=content, timeout=10)
    assert answer.status_code == status
    assert answer.json()["message"]


def test_a_change_must_be_a_post(sandbox):
    assert requests.get(f"{sandbox.url}/sandbox/api/logout", timeout=10).status_code == 405
    assert sandbox.state()["licenses"][0]["linked"]


def test_a_broken_question_is_a_400(sandbox):
    for query in ("state?since=x", "state?since=1&wait=soon", "ledger?after=x"):
        assert requests.get(f"{sandbox.url}/sandbox/api/{query}", timeout=10).status_code == 400


def test_a_group_that_was_added_can_be_sent_to(sandbox):
    sandbox.add_group("Kasir pagi")
    sandbox.add_group("Kasir pagi")
    content = {"groupName": "Kasir pagi", "message": "halo"}
    headers = {"X-API-KEY": sandbox.key}
    assert requests.post(f"{sandbox.base_url}/openapi/wa/message-group", content, headers=headers, timeout=10).ok
    assert [chat["name"] for chat in sandbox.state()["chats"]].count("Kasir pagi") == 1
    assert sandbox.ledger()[0]["group"] == "Kasir pagi"


def test_a_number_can_be_taken_off_whatsapp_and_put_back(sandbox):
    def is_registered():
        headers = {"X-API-KEY": sandbox.key}
        url = f"{sandbox.base_url}/openapi/wa/check-number/0812-3456-7890"
        return requests.get(url, headers=headers, timeout=10).json()["is_registered"]

    assert is_registered()
    sandbox.set_registered("+62 812 3456 7890", False)
    assert not is_registered()
    sandbox.set_registered("081234567890", True)
    assert is_registered()


def test_a_message_is_marked_delivered_once_and_never_moves_back(sandbox):
    message_id = send(sandbox)
    sandbox.read(id=message_id)
    requests.post(f"{sandbox.url}/sandbox/api/delivered", json={"id": message_id}, timeout=10)
    assert sandbox.state(chat=NUMBER)["chat"]["messages"][0]["ticks"] == "read"


def test_an_unlinked_phones_state_does_not_outlast_its_qr(sandbox):
    sandbox.logout()
    version = sandbox.state()["version"]
    answer = requests.get(f"{sandbox.url}/sandbox/api/state?since={version}&wait=0.2", timeout=10)
    assert answer.json()["licenses"][0]["qr_url"]
    assert requests.get(f"{sandbox.url}/sandbox/qr.png?license=Nobody", timeout=10).status_code == 404


def test_an_answer_without_a_body_comes_at_once_on_a_kept_connection(sandbox):
    with requests.Session() as session:
        session.trust_env = False
        asset = f"{sandbox.url}/sandbox/static/phone.js"
        modified = session.get(asset, timeout=5).headers["Last-Modified"]
        assert session.get(asset, headers={"If-Modified-Since": modified}, timeout=5).status_code == 304
        assert session.head(f"{sandbox.url}/", timeout=5).status_code == 200
        assert session.head(f"{sandbox.base_url}/openapi/wa/status", timeout=5).status_code == 401
