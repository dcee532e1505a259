"""The ways out: Django's mail, and addresses that JSON is posted to. Each is bounded in time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from string import Template
from urllib.parse import urlsplit

from django.core.mail import EmailMessage
from django.utils.translation import gettext_lazy as _

from .. import outside
from ..conf import Settings, kpwa_settings
from ..gateway.addresses import is_page
from ..health import MAX_LICENSES
from ..logs import get_logger
from ..models import License
from ..outside import Failure
from .texts import Told, trial

logger = get_logger("django_kpwa.alerts.ways")

SECONDS = 10.0
"""Maximum duration of telling by all ways, which are taken at once."""
EMAIL = "e-mail"
_MOST_TRIED = 20


@dataclass(frozen=True)
class Way:
    """A way out, by name: `EMAIL`, or the host of an address. `failure`: what went wrong; None: nothing."""

    name: str
    failure: Failure | None


Works = dict[str, Callable[[], Failure | None]]


def tell(told: Told, license_: License | None = None, *, seconds: float = SECONDS) -> list[Way]:
    """Tell by all ways that are configured, for at most `seconds`.

    The address of `license_` is told too; of what concerns the whole site, the addresses of all licenses are.
    """
    conf = kpwa_settings()
    own = _own_emails() if license_ is None else {license_.name: license_.alert_email}
    mailing = _mailing(EMAIL, told, conf.ALERT_EMAILS, own.values())
    ways = _take({**mailing, **_posting(told, conf, seconds)}, seconds)
    for way in ways:
        if way.failure is not None:
            logger.warning("An alert could not be told by %s: %s.", way.name, way.failure.in_english)
    return ways


def try_ways(seconds: float) -> list[Way]:
    """Tell by all ways, for at most `seconds`, that this is a test: also by the addresses of licenses' own."""
    conf, told = kpwa_settings(), trial()
    works = _mailing(EMAIL, told, conf.ALERT_EMAILS)
    for name, email in list(_own_emails().items())[:_MOST_TRIED]:
        works |= _mailing(f"{EMAIL} ({name})", told, (), [email])
    return _take({**works, **_posting(told, conf, seconds)}, seconds)


def _take(works: Works, seconds: float) -> list[Way]:
    return [Way(name, failure) for name, failure in outside.answers(works, seconds).items()]


def body_of(told: Told, template: str) -> bytes:
    """The JSON that is posted: `template` with its `$names` replaced by JSON, or all values if it is empty.

    Raises `KeyError` for an unknown name, and `ValueError` where the result is no JSON.
    """
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in told.values.items()}
    text = Template(template).substitute(values) if template else json.dumps(dict(told.values), ensure_ascii=False)
    json.loads(text)
    return text.encode()


def _own_emails() -> dict[str, str]:
    """The addresses of active licenses, by the licenses' names."""
    own = License.objects.active().exclude(alert_email="").order_by("name")
    return dict(own.values_list("name", "alert_email")[:MAX_LICENSES])


def _mailing(name: str, told: Told, emails: Iterable[str], own: Iterable[str] = ()) -> Works:
    """`own`: addresses of licenses, which do not see one another."""
    to = sorted(set(emails))
    bcc = sorted(set(own) - {*to, ""})
    return {name: partial(_mail, told, to, bcc)} if to or bcc else {}


def _mail(told: Told, to: list[str], bcc: list[str]) -> None:
    # Without a connection of our own: Django 6.1 chooses it by MAILERS, earlier ones by EMAIL_BACKEND.
    body = "\n\n".join(filter(None, (told.text, told.url)))
    EmailMessage(subject=told.title, body=body, to=to, bcc=bcc).send()


def _posting(told: Told, conf: Settings, seconds: float) -> Works:
    works: Works = {}
    for url, template in conf.ALERT_URLS.items():
        works[_name(url, works)] = partial(_post, told, url, template, conf, seconds)
    return works


def _post(told: Told, url: str, template: str, conf: Settings, seconds: float) -> Failure | None:
    if not is_page(url, may_be_in_the_clear=conf.ALERT_OVER_HTTP):
        return Failure(_("the address is not https, or not plain enough"))
    try:
        body = body_of(told, template)
    except (KeyError, ValueError):
        return Failure(_("the template of its body is not valid"))
    return outside.ask(url, seconds, body)


def _name(url: str, taken: Works) -> str:
    """The host of `url`, numbered if there are several of one host. The rest of an address may be a secret."""
    try:
        host = urlsplit(url).hostname or "…"
    except ValueError:
        host = "…"
    same = sum(name.split(" ")[0] == host for name in taken)
    return f"{host} ({same + 1})" if same else host
