"""Turns an HTTP answer of the gateway into a frozen dataclass, or into the exception to raise.

An answer is untrusted text, and is read only here. What is kept of it can be stored in any database (no NUL, no lone
surrogates). Its words are cut to a maximum length, and keys and phone numbers in them are masked.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..contents import storable
from ..encryption import Secret
from ..exceptions import (
    BadRequestError,
    GatewayError,
    GatewayTimeoutError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from ..logs import mask_paths, without_controls
from ..phone import mask_numbers
from .base import NumberCheck, SentMessage, ServiceStatus, WebhookAnswer, session_status_of
from .qr import LoginQr

MAX_ID_CHARACTERS = 255
MAX_WORDS_CHARACTERS = 500
MAX_ERRORS = 20
_MAX_DEPTH = 4

# Values that programs write for a missing id: an empty value, or its name.
_NO_IDS = {"", "0", "null", "undefined", "none", "nil", "nan", "false", "true"}

_GUARDED = "the gateway, or something in front of it, denies access"
_NO_PLACE = "it does not know this path"
_BAD_FORM = "it does not accept a request of this form or size"
_NOT_REACHED = "Cloudflare, in front of the gateway, could not reach it"
TURNED_AWAY: Mapping[int, str] = {
    402: "the license is not paid for",
    403: _GUARDED,
    404: _NO_PLACE,
    405: _NO_PLACE,
    407: _GUARDED,
    410: _NO_PLACE,
    411: _BAD_FORM,
    413: _BAD_FORM,
    414: _BAD_FORM,
    415: _BAD_FORM,
    417: _BAD_FORM,
    421: _NO_PLACE,
    422: _BAD_FORM,
    426: _BAD_FORM,
    431: _BAD_FORM,
    451: _GUARDED,
    501: _NO_PLACE,
    511: _GUARDED,
    521: _NOT_REACHED,
    522: _NOT_REACHED,
    523: _NOT_REACHED,
    525: _NOT_REACHED,
    526: _NOT_REACHED,
    530: _NOT_REACHED,
}
"""Statuses which prove that the request was not carried out, with the reason; docs/gateway-contract.md explains each.

Do not add these, though they look similar: 408, 409, 428 and 440, with which gateways of this family report that
the connection to WhatsApp broke during the send; 520 and 524, for which Cloudflare had reached the gateway;
redirects, which may follow an operation that was carried out.
"""

_HALVES = re.compile(r"[\ud800-\udfff]")
_WEBHOOK_HINT = (
    " The reference is ambiguous here: its headings say /openapi/wa/webhook, its generated anchors openapi_webhook."
    " Ask the gateway's support for the path."
)


@dataclass(frozen=True)
class Answer:
    """A complete, decompressed HTTP answer to the operation `path`. `secrets` must not appear in any words shown."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    path: str = field(repr=False)
    secrets: tuple[Secret, ...] = ()


class Content(dict[str, Any]):
    """A JSON object from the gateway. Its repr hides the content, because error reports print the locals of frames."""

    def __repr__(self) -> str:
        return "{…}"


def read_object(answer: Answer) -> Content:
    """Return the JSON object of a 200. Raises the `GatewayError` for any other answer."""
    require_success(answer)
    content = _json_object(answer)
    if content is None:
        raise UnexpectedAnswerError(
            "The gateway answered 200 with something other than a JSON object.", status_code=200
        )
    return content


def read_accepted(answer: Answer) -> Content:
    """Return the JSON object of a 200, 201 or 202, with which APIs accept a message. Raises the `GatewayError` for any
    other answer."""
    return read_object(replace(answer, status_code=200) if answer.status_code in (201, 202) else answer)


def require_success(answer: Answer) -> None:
    """Raise the `GatewayError` for an answer other than 200."""
    if answer.status_code != 200:
        raise _failure(answer)


def sent_message(answer: Answer) -> SentMessage:
    """Read the answer to a send. Raises `GatewayError`, also for a 200 without a usable message id."""
    content = read_object(answer)
    result = Content(content["result"] if isinstance(content.get("result"), dict) else {})
    gateway_id = _text(result.get("id")).strip()
    if gateway_id.lower() in _NO_IDS or len(gateway_id) > MAX_ID_CHARACTERS:
        raise UnexpectedAnswerError(
            "The gateway answered 200 without a message id.",
            status_code=200,
            code=_code(content, answer),
            words=_words(content.get("message"), answer),
        )
    return SentMessage(
        id=gateway_id,
        body=_text(result.get("body")),
        from_number=_text(result.get("from"))[:64],
        to=_text(result.get("to"))[:255],
        media_url=_text(result.get("media_url")) or None,
        created_at=_text(result.get("created_at"))[:64],
        message=_words(content.get("message"), answer),
        code=_code(content, answer),
    )


def service_status(answer: Answer) -> ServiceStatus:
    """Read the answer to status; an undocumented status word is `UNKNOWN`. Raises `GatewayError`."""
    content = read_object(answer)
    if not isinstance(content.get("status"), str):
        raise UnexpectedAnswerError("The gateway answered 200 without a status.", status_code=200)
    return _status(content, answer)


def done(answer: Answer) -> ServiceStatus:
    """Read the answer to restart or webhook reset, which succeeded even if a 200 names no status.

    Raises `GatewayError`.
    """
    return _status(read_object(answer), answer)


def number_check(answer: Answer) -> NumberCheck:
    """Read the answer to check-number. Raises `GatewayError`."""
    content = read_object(answer)
    is_registered = content.get("is_registered")
    if not isinstance(is_registered, bool):
        raise UnexpectedAnswerError("The gateway did not say whether the number is registered.", status_code=200)
    return NumberCheck(is_registered, message=_words(content.get("message"), answer), code=_code(content, answer))


def webhook_answer(answer: Answer) -> WebhookAnswer:
    """Read the answer to setting the webhook. Raises `GatewayError`."""
    content = read_object(answer)
    return WebhookAnswer(message=_words(content.get("message"), answer), code=_code(content, answer))


def login_qr(answer: Answer) -> LoginQr:
    """Read the answer to login-qr, in any form that `LoginQr` knows. Raises `GatewayError`."""
    require_success(answer)
    return LoginQr.from_answer(answer.body)


def _status(content: Content, answer: Answer) -> ServiceStatus:
    word = _words(content.get("status"), answer)[:64]
    return ServiceStatus(
        session_status_of(word), word=word, message=_words(content.get("message"), answer), code=_code(content, answer)
    )


def _failure(answer: Answer) -> GatewayError:
    """Return the error for an answer other than 200. A 400 or 500 counts as the gateway's only if its body has a
    documented shape: something in front of the gateway may have answered."""
    status = answer.status_code
    content = _json_object(answer)
    said: dict[str, Any] = {"status_code": status, "words": ""}
    if content is not None:
        said |= {
            "code": _code(content, answer),
            "errors": _errors(content, answer),
            "words": _words(content.get("message"), answer),
        }
    if status == 401:
        return UnauthorizedError("The gateway does not accept the API key.", **said)
    if status == 429:
        seconds = retry_after_seconds(answer.headers.get("Retry-After"))
        return RateLimitedError("The gateway asks to wait: too many requests.", retry_after_seconds=seconds, **said)
    if (reason := _turned_away(answer)) is not None:
        seconds = retry_after_seconds(answer.headers.get("Retry-After"))
        return TurnedAwayError(f"The gateway answered {status}: {reason}", retry_after_seconds=seconds, **said)
    if status in (502, 504):
        return GatewayTimeoutError(f"The gateway answered {status}: it did not hear from WhatsApp in time.", **said)
    if content is not None and _has_documented_form(content, answer):
        if status == 400:
            return BadRequestError(f"The gateway refused the request: {_shown(said)}", **said)
        if status == 500:
            return ServerError(f"The gateway failed: {_shown(said)}", **said)
    return UnexpectedAnswerError(_unexpected(answer), **said)


def _turned_away(answer: Answer) -> str | None:
    """Return the reason if the answer proves that the request was not carried out, else None."""
    status = answer.status_code
    if status == 404:
        hint = _WEBHOOK_HINT if answer.path.startswith("/openapi/wa/webhook") else " Check the base URL."
        return f"{_NO_PLACE}.{hint}"
    if status in TURNED_AWAY:
        return f"{TURNED_AWAY[status]}."
    if status >= 400 and answer.headers.get("cf-mitigated", "").strip().lower() == "challenge":
        return "Cloudflare, in front of the gateway, answered with a challenge for browsers."
    if status == 503 and retry_after_seconds(answer.headers.get("Retry-After")) is not None:
        return "it is not available at the moment, and asks to try again later."
    return None


def _unexpected(answer: Answer) -> str:
    status = answer.status_code
    if 300 <= status < 400:
        where = urlsplit(_words(answer.headers.get("Location"), answer))
        target = f" to {where.scheme}://{where.hostname}" if where.hostname else ""
        return (
            f"The gateway answered {status}, a redirect{target}. It is not followed, because the API key would be "
            "sent along. Check the base URL."
        )
    if status in (400, 500):
        return (
            f"The gateway answered {status}, but not in the documented form: something in front of it may have "
            "answered."
        )
    return f"The gateway answered {status}, which its reference does not document."


def _shown(said: dict[str, Any]) -> str:
    return "; ".join(filter(None, (said["words"], *said["errors"])))


def retry_after_seconds(value: str | None) -> float | None:
    """Return the seconds from now, 0 to one day, that a Retry-After header asks for as a number or an HTTP date.

    None if there is no header or it cannot be read.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
        return min(float(text), 86400.0)
    if not text or len(text) > 64 or text[0].isdigit():
        return None
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
    return min(max(seconds, 0.0), 86400.0) if math.isfinite(seconds) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _json_object(answer: Answer) -> Content | None:
    """Return the JSON object in the body, whatever the content type, or None."""
    try:
        content = _DECODER.decode(answer.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        # ValueError is also raised for bytes that are not UTF-8, and integers with more digits than Python converts.
        return None
    return Content(content) if isinstance(content, dict) else None


def _code(content: Content, answer: Answer) -> Any:
    """Return the gateway's code as it came, except that secrets and numbers in its texts are masked."""
    code = content.get("code")
    if isinstance(code, (dict, list)):
        text = json.dumps(code, ensure_ascii=False)
        shown = _words(text, answer)
        return code if shown == text else shown
    return _words(code, answer) if isinstance(code, str) else code


def _errors(content: Content, answer: Answer) -> tuple[str, ...]:
    """Return the gateway's reasons: `errors` of a 400, `error` of a 500, or the equivalents of other gateways.

    They are documented as texts. In objects, a code or a word may report a restriction.
    """
    given = (content.get(name) for name in ("errors", "error", "reason", "detail", "details"))
    message = content.get("message")
    reasons = islice(_scalars([*given, message if isinstance(message, (dict, list)) else None]), MAX_ERRORS)
    return tuple(filter(None, (_words(reason, answer) for reason in reasons)))


def _scalars(held: object, depth: int = 0) -> Iterator[str]:
    """Yield the texts and numbers in a reason of the gateway."""
    if isinstance(held, str):
        yield held
    elif isinstance(held, (int, float)) and not isinstance(held, bool):
        yield str(held)
    elif isinstance(held, list) and depth < _MAX_DEPTH:
        for one in held[:MAX_ERRORS]:
            yield from _scalars(one, depth + 1)
    elif isinstance(held, dict) and depth < _MAX_DEPTH:
        for name, one in islice(held.items(), MAX_ERRORS):
            # Other numbers are line numbers, times and sizes.
            if not isinstance(one, (int, float)) or re.search("code|error|status", name, re.IGNORECASE):
                yield from _scalars(one, depth + 1)


def _has_documented_form(content: Content, answer: Answer) -> bool:
    """True if one of the texts documented for a 400 or a 500 is present."""
    errors = content.get("errors")
    several = errors[:MAX_ERRORS] if isinstance(errors, list) else [errors]
    return any(_words(text, answer) for text in (content.get("message"), content.get("error"), *several))


def _words(value: object, answer: Answer) -> str:
    """Return a text of the gateway, masked and cut so that it can be shown; an empty string for any other value."""
    if not isinstance(value, str):
        return ""
    for secret in answer.secrets:
        if len(secret.reveal()) > 3:
            value = value.replace(secret.reveal(), "…")
    # Any answer may quote the webhook's URL, and the token in it is not stored here, so every path is masked.
    readable = _HALVES.sub(" ", without_controls(value[: 4 * MAX_WORDS_CHARACTERS]))
    shown = mask_numbers(mask_paths(readable)).strip()
    return shown if len(shown) <= MAX_WORDS_CHARACTERS else f"{shown[: MAX_WORDS_CHARACTERS - 1]}…"


def _text(value: object) -> str:
    """Return a text of the gateway in full, with unstorable characters replaced. A number (an id) becomes text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return storable(value) if isinstance(value, str) else ""
