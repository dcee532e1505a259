"""Every answer of the sandbox, success or failure, agrees with `openapi.yaml`."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import include, path

from django_kpwa.encryption import Secret
from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import Gateway
from django_kpwa.sandbox.contract import urls
from django_kpwa.sandbox.phone import SandboxGateway
from django_kpwa.sandbox.world import Sandbox

from .documented import assert_documented, operations

KEY = "contract-key"
FORM = "application/x-www-form-urlencoded"
NUMBER = {"phoneNumber": "0812 3456 7890"}
gateways: dict[str, Gateway] = {}
urlpatterns = [path("backend/", include(urls(gateways.get)))]
pytestmark = pytest.mark.urls(__name__)

CALLS = {
    "restart": ("GET", "restart", {}),
    "status": ("POST", "status", {}),
    "login-qr": ("POST", "login-qr", {}),
    "check-number": ("GET", "check-number/081234567890", {}),
    "message": ("POST", "message", {**NUMBER, "message": "Struk"}),
    "message-group": ("POST", "message-group", {"groupName": "Dapur", "message": "Struk"}),
    "webhook": ("POST", "webhook", {"webhook": "https://shop.example/hook/"}),
    "webhook/reset": ("GET", "webhook/reset", {}),
}


class FailingGateway(Gateway):
    """A gateway that raises the same error from every operation, and counts how often it is closed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Secret(KEY))
        self.error = error
        self.closed = 0

    def _fail(self, *arguments, **options):
        raise self.error

    restart = get_status = get_login_qr = check_number = send_message = send_group_message = _fail
    set_webhook = reset_webhook = _fail

    def close(self):
        self.closed += 1


@pytest.fixture
def sandbox():
    sandbox = Sandbox()
    sandbox.add_account("Toko", KEY, linked=True, groups=["Dapur"])
    gateways[KEY] = SandboxGateway(Secret(KEY), sandbox=sandbox)
    yield sandbox
    gateways.clear()


def failing(error):
    gateways[KEY] = FailingGateway(error)
    return gateways[KEY]


@pytest.fixture(autouse=True)
def _forget_gateways():
    yield
    gateways.clear()


def ask(method, operation, content=None, *, key=KEY, content_type=FORM, body=None, must_be_documented=True, **headers):
    url = f"/openapi/wa/{operation}"
    if body is None:
        body = "&".join(f"{name}={value}" for name, value in (content or {}).items()).encode()
    if key:
        headers["X-API-KEY"] = key
    client = Client(raise_request_exception=False)
    answer = client.generic(method, f"/backend{url}", body, content_type=content_type, headers=headers)
    if must_be_documented:
        assert_documented(method, url, answer.status_code, answer["Content-Type"], answer.content)
    return answer


def send(body, content_type=FORM):
    return ask("POST", "message", body=body, content_type=content_type)


def test_the_calls_of_these_tests_are_all_operations_of_the_contract():
    assert len(CALLS) == len(operations())


@pytest.mark.parametrize("name", [name for name in CALLS if name != "login-qr"])
def test_a_success_has_its_documented_shape(sandbox, name):
    assert ask(*CALLS[name]).status_code == 200


def test_a_qr_is_json_with_a_data_uri_unless_an_image_is_asked_for(sandbox):
    sandbox.log_out(sandbox.account())
    assert json.loads(ask("POST", "login-qr").content)["qr_string"].startswith("data:image/png;base64,")
    assert ask("POST", "login-qr", {"responseAs": "string"})["Content-Type"] == "application/json"
    image = ask("POST", "login-qr", {"responseAs": "image"})
    assert image["Content-Type"] == "image/png"
    assert image.content.startswith(b"\x89PNG")
    for unknown in ("svg", ""):
        assert ask("POST", "login-qr", {"responseAs": unknown}).status_code == 400


@pytest.mark.parametrize(
    ("response_as", "accept", "kind"),
    [
        ("image", "application/json", "application/json"),  # the sample of the reference
        ("image", "APPLICATION/JSON; charset=utf-8", "application/json"),
        ("image", "application/*", "application/json"),
        ("image", "application/json, image/png;q=0.5", "application/json"),
        ("image", "application/json;q=0.9, */*;q=0.1", "application/json"),
        ("image", "text/html", "image/png"),
        ("image", "*/*", "image/png"),
        ("image", "image/*", "image/png"),
        ("image", "image/png, application/json", "image/png"),
        ("image", "application/json, text/plain, */*", "image/png"),
        ("string", "application/json", "application/json"),
        ("string", "image/png", "application/json"),
        ("string", "*/*", "application/json"),
        (None, "image/png", "image/png"),
        (None, "image/png, application/json;q=0.1", "application/json"),
        (None, "*/*;q=nonsense, ;;", "application/json"),
    ],
)
def test_a_qr_is_json_where_json_is_asked_for_and_an_image_where_an_image_is(sandbox, response_as, accept, kind):
    sandbox.log_out(sandbox.account())
    answer = ask("POST", "login-qr", {"responseAs": response_as} if response_as else {}, Accept=accept)
    assert (answer.status_code, answer["Content-Type"]) == (200, kind)
    if kind == "image/png":
        assert answer.content.startswith(b"\x89PNG")
    else:
        assert json.loads(answer.content)["qr_string"].startswith("data:image/png;base64,")


def test_the_status_words_are_those_of_the_reference(sandbox):
    def words():
        return [json.loads(ask(*CALLS[name]).content)["status"] for name in ("restart", "status", "webhook/reset")]

    assert words() == ["ready", "connected", "connected"]
    sandbox.log_out(sandbox.account())
    assert words() == ["qr", "qr", "qr"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequestError("No.", errors=("one", "two")), 400),
        (BadRequestError("No.", code="E1"), 400),
        (UnauthorizedError("No."), 401),
        (ServerError("No.", code=50001), 500),
        (GatewayTimeoutError("No."), 504),
        (ConnectionLostError("No."), 504),
        (NotConnectedError("No."), 500),
        (UnexpectedAnswerError("No."), 500),
        (ZeroDivisionError("+62 812-3456-7890"), 500),
    ],
    ids=repr,
)
def test_a_failure_of_the_gateway_has_its_documented_shape(name, error, status):
    gateway = failing(error)
    answer = ask(*CALLS[name])
    assert answer.status_code == status
    assert b"812-3456" not in answer.content
    assert gateway.closed == 1


def test_a_400_has_errors_only_where_there_are_any():
    failing(BadRequestError("No.", errors=("one", "two")))
    assert json.loads(ask(*CALLS["message"]).content)["errors"] == ["one", "two"]
    failing(BadRequestError("No."))
    assert "errors" not in json.loads(ask(*CALLS["message"]).content)


def test_a_strangers_exception_is_logged_without_its_words(caplog):
    failing(ZeroDivisionError("+62 812-3456-7890"))
    ask(*CALLS["message"])
    assert "ZeroDivisionError" in caplog.text
    assert "3456" not in caplog.text


def test_a_429_says_when_to_come_back():
    failing(RateLimitedError("Slow down.", retry_after_seconds=1.2))
    answer = ask(*CALLS["message"], must_be_documented=False)
    assert (answer.status_code, answer["Retry-After"]) == (429, "2")
    failing(RateLimitedError("Slow down."))
    assert "Retry-After" not in ask(*CALLS["message"], must_be_documented=False)


@pytest.mark.parametrize("key", ["", "wrong", "contract-key-2"])
@pytest.mark.parametrize("name", CALLS)
def test_without_a_known_key_every_operation_answers_401(sandbox, name, key):
    answer = ask(*CALLS[name], key=key)
    assert answer.status_code == 401
    assert sandbox.ledger == []


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_method_is_a_405_in_json_that_names_the_right_one(sandbox, name):
    right, operation, _ = CALLS[name]
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"} - {right}:
        answer = ask(method, operation, must_be_documented=False)
        assert (answer.status_code, answer["Allow"], answer["Content-Type"]) == (405, right, "application/json")


@pytest.mark.parametrize("operation", ["", "nothing", "webhook/", "status/", "check-number/", "message/extra"])
def test_another_path_is_a_404_in_json(sandbox, operation):
    answer = ask("POST", operation, must_be_documented=False)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")


@pytest.mark.parametrize(
    "written", ["0812%203456%207890", "%2B62%20812-3456-7890", "0812%2F3456/7890", "0812%0A34567890"]
)
def test_a_number_in_the_path_is_read_whatever_stands_between_its_digits(sandbox, written):
    sandbox.set_registered("6281234567890", False)
    answer = ask("GET", f"check-number/{written}", must_be_documented=False)
    assert json.loads(answer.content)["is_registered"] is False


def multipart(*parts):
    sections = [f"--limit\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n" for head, value in parts]
    return "".join(sections).encode() + b"--limit--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"phoneNumber=081234567890&message=Struk+%F0%9F%99%8F", FORM),
        (b"phoneNumber=1&phoneNumber=081234567890&message=Struk+%F0%9F%99%8F", FORM),
        (b"phoneNumber=081234567890&message=Struk+%F0%9F%99%8F", ""),
        (b"phoneNumber=081234567890&message=Struk+%F0%9F%99%8F", "text/plain"),
        ('{"phoneNumber": "081234567890", "message": "Struk 🙏"}'.encode(), "application/json"),
        ('{"phoneNumber": "081234567890", "message": "Struk 🙏"}'.encode(), FORM),
        ('\n {"phoneNumber": "081234567890", "message": "Struk 🙏"}'.encode(), "text/plain; charset=utf-8"),
        ('{"phoneNumber": 6281234567890, "message": "Struk 🙏", "imageUrl": null}'.encode(), "application/json"),
        (
            multipart(('name="phoneNumber"', "081234567890"), ('name="message"', "Struk 🙏")),
            "multipart/form-data; boundary=limit",
        ),
    ],
)
def test_a_body_is_read_by_what_it_is(sandbox, body, content_type):
    assert send(body, content_type).status_code == 200
    (delivery,) = sandbox.ledger
    assert (delivery.recipient, delivery.text) == ("6281234567890", "Struk 🙏")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"message=Struk", FORM),
        (b"phoneNumber=&message=Struk", FORM),
        (b"phoneNumber=none&message=Struk", FORM),
        (b"phoneNumber=081234567890", FORM),
        (b"phoneNumber=081234567890&message=++", FORM),
        (b"phoneNumber=081234567890&imageUrl=javascript:alert(1)", FORM),
        (b"phoneNumber=081234567890&imageUrl=http://[", FORM),
        (b"phoneNumber=081234567890&message=%ff", FORM),
        (b"\xff\xfe", FORM),
        (b"&".join(b"a=1" for _ in range(5000)), FORM),
        (b'{"phoneNumber": "081234567890"', "application/json"),
        (b'{"phoneNumber": "081234567890"', FORM),
        (b'["081234567890", "Struk"]', "application/json"),
        (b"phoneNumber=081234567890&message=Struk", "application/json"),
        (b'{"phoneNumber": ["081234567890"], "message": "Struk"}', "application/json"),
        (b'{"phoneNumber": true, "message": "Struk"}', "application/json"),
        (b'{"phoneNumber": {"a": 1}, "message": "Struk"}', "application/json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "application/json"),
        (b"<phoneNumber>081234567890</phoneNumber>", "application/xml"),
        (multipart(('name="phoneNumber"', "081234567890"))[:40], "multipart/form-data; boundary=limit"),
        (b"--limit", "multipart/form-data"),
        (b"message=" + b"a" * 3_000_000, FORM),
    ],
    ids=range(23),
)
def test_a_body_that_cannot_be_used_is_a_400_that_says_why(sandbox, body, content_type):
    answer = send(body, content_type)
    assert answer.status_code == 400
    assert json.loads(answer.content)["errors"]
    assert sandbox.ledger == []


@pytest.mark.parametrize("url", ["", "ftp://shop.example/", "shop.example/hook", "https://", "https://a:99999/"])
def test_a_webhook_that_is_no_http_url_is_refused(sandbox, url):
    assert ask("POST", "webhook", {"webhook": url}).status_code == 400
    assert sandbox.account().webhook_url == ""
