"""The ways out: Django's mail, and addresses that JSON is posted to. Each is bounded in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import Template
from urllib.parse import urlsplit

from django.core.mail import send_mail

from .. import outside
from ..conf import Settings, kpwa_settings
from ..gateway.addresses import is_page
from ..logs import get_logger
from .texts import Told, trial

logger = get_logger("django_kpwa.alerts.ways")

SECONDS = 10.0
"""Maximum duration of telling by all ways, which are taken at once."""
EMAIL = "e-mail"


@dataclass(frozen=True)
class Way:
    """A way out, by name: `EMAIL`, or the host of an address. `problem`: what went wrong, in English; may be empty."""

    name: str
    problem: str


def tell(told: Told, email: str = "", seconds: float = SECONDS) -> list[Way]:
    """Tell by all ways that are configured, for at most `seconds`. `email`: an address besides `ALERT_EMAILS`."""
    conf = kpwa_settings()
    works: dict[str, Callable[[], str]] = {}
    if emails := sorted({*conf.ALERT_EMAILS, *([email] if email else [])}):
        works[EMAIL] = partial(_mail, told, emails)
    for url, template in conf.ALERT_URLS.items():
        works[_name(url, works)] = partial(_post, told, url, template, conf, seconds)
    ways = [Way(name, problem) for name, problem in outside.answers(works, seconds).items()]
    for way in ways:
        if way.problem:
            logger.warning("An alert could not be told by %s: %s.", way.name, way.problem)
    return ways


def try_ways(seconds: float = SECONDS) -> list[Way]:
    """Tell by all ways of the settings that this is a test; say what became of each."""
    return tell(trial(), seconds=seconds)


def body_of(told: Told, template: str) -> bytes:
    """The JSON that is posted: `template` with its `$names` replaced by JSON, or all values if it is empty.

    Raises `KeyError` for an unknown name, and `ValueError` where the result is no JSON.
    """
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in told.values.items()}
    text = Template(template).substitute(values) if template else json.dumps(dict(told.values), ensure_ascii=False)
    json.loads(text)
    return text.encode()


def _mail(told: Told, emails: list[str]) -> str:
    # Without a connection of our own: Django 6.1 chooses it by MAILERS, earlier ones by EMAIL_BACKEND.
    send_mail(told.title, "\n\n".join(filter(None, (told.text, told.url))), None, emails)
    return ""


def _post(told: Told, url: str, template: str, conf: Settings, seconds: float) -> str:
    if not is_page(url, may_be_in_the_clear=conf.ALERT_OVER_HTTP):
        return "the address is not https, or not plain enough; see manage.py check"
    try:
        body = body_of(told, template)
    except (KeyError, ValueError):
        return "the template of its body is not valid; see manage.py check"
    return outside.ask(url, seconds, body)


def _name(url: str, taken: dict[str, Callable[[], str]]) -> str:
    """The host of `url`, numbered if there are several of one host. The rest of an address may be a secret."""
    try:
        host = urlsplit(url).hostname or "…"
    except ValueError:
        host = "…"
    same = sum(name.split(" ")[0] == host for name in taken)
    return f"{host} ({same + 1})" if same else host
