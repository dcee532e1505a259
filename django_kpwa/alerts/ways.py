"""Delivers notifications: by Django's e-mail, and by posting JSON to URLs. Each way is bounded in time.

Notifications that are sent together reach each e-mail address as one mail, which contains only those about the whole
site and the address's own license. URLs get one notification per request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from string import Template
from typing import NamedTuple
from urllib.parse import urlsplit

from django.core.mail import EmailMessage
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import outside
from ..conf import Settings, kpwa_settings
from ..gateway.addresses import is_page
from ..health import MAX_LICENSES
from ..logs import get_logger
from ..models import License, Telling
from ..outside import Failure
from .texts import Told, trial

logger = get_logger("django_kpwa.alerts.ways")

SECONDS = 10.0
"""Maximum duration of one notification over all ways, which are used concurrently."""
EMAIL = "e-mail"
_MAX_TRIED = 20


class Way(NamedTuple):
    """The result of one way. `name`: `EMAIL`, or the host of a URL. `failure`: what went wrong; None: nothing."""

    name: str
    failure: Failure | None


Works = dict[str, Callable[[], Failure | None]]
News = tuple[Told, License | None]
"""A notification, and the license that it concerns; None: the whole site."""


def tell(news: Sequence[News], *, seconds: float = SECONDS) -> Iterator[list[Way]]:
    """Send notifications by all configured ways. Yields the results for each of `news`, after at most `seconds` each.

    A notification also goes to the e-mail address of its license; one about the whole site to those of all licenses.
    """
    conf = kpwa_settings()
    letters = {letter.name: letter for letter in _letters(news, conf.ALERT_EMAILS)}
    works: Works = {name: letter.send for name, letter in letters.items()}
    mailed: list[Way] = []
    for index, (told, _license) in enumerate(news):
        ways = _take({**works, **_posting(told, conf, seconds)}, seconds)
        for way in ways:
            if way.failure is not None:
                logger.warning("An alert could not be delivered by %s: %s.", way.name, way.failure.in_english)
        if works:
            mailed, works = [way for way in ways if way.name in works], {}
        posted = [way for way in ways if way.name not in letters]
        yield [*(way for way in mailed if index in letters[way.name].indexes), *posted]


def try_ways(seconds: float) -> list[Way]:
    """Send a test notification by all ways, including the licenses' own e-mail addresses, for at most `seconds`."""
    conf, told = kpwa_settings(), trial()
    to = sorted(set(conf.ALERT_EMAILS))
    works: Works = {EMAIL: partial(_mail, told.title, _body([told]), to, [])} if to else {}
    for name, email in list(_own_emails().items())[:_MAX_TRIED]:
        works[f"{EMAIL} ({name})"] = partial(_mail, told.title, _body([told]), [], [email])
    return _take({**works, **_posting(told, conf, seconds)}, seconds)


def _take(works: Works, seconds: float) -> list[Way]:
    return [Way(name, failure) for name, failure in outside.answers(works, seconds).items()]


def body_of(told: Told, template: str) -> bytes:
    """Return the JSON to post: `template` with its `$names` replaced by JSON values, or all values if it is empty.

    Raises `KeyError` for an unknown name, and `ValueError` if the result is not JSON.
    """
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in told.values.items()}
    text = Template(template).substitute(values) if template else json.dumps(dict(told.values), ensure_ascii=False)
    json.loads(text)
    return text.encode()


def _own_emails() -> dict[str, str]:
    """Return the e-mail addresses of active licenses, by the licenses' names."""
    own = License.objects.active().exclude(alert_email="").order_by("name")
    return dict(own.values_list("name", "alert_email")[:MAX_LICENSES])


class _Letter(NamedTuple):
    """One e-mail. `name`: the name of its `Way`. `indexes`: which of the news it contains."""

    name: str
    indexes: tuple[int, ...]
    send: Callable[[], None]


def _letters(news: Sequence[News], emails: Iterable[str]) -> Iterator[_Letter]:
    """Yield one e-mail for each group of addresses that get the same news.

    The licenses' own addresses are in Bcc, so that they do not see one another.
    """
    to = sorted(set(emails))
    every = tuple(range(len(news)))
    told_to: dict[str, list[int]] = {}
    of_all = _own_emails() if any(license_ is None for _told, license_ in news) else {}
    for index, (_told, license_) in enumerate(news):
        own = set(of_all.values()) if license_ is None else {license_.alert_email}
        for email in own - {*to, ""}:
            told_to.setdefault(email, []).append(index)
    circles: dict[tuple[int, ...], list[str]] = {every: []} if to and news else {}
    for email, told_of in told_to.items():
        circles.setdefault(tuple(told_of), []).append(email)
    for indexes, bcc in circles.items():
        told = [news[index][0] for index in indexes]
        names = dict.fromkeys(each.license for each in told if each.license)
        name = EMAIL if indexes == every else f"{EMAIL} ({', '.join(names) or '…'})"
        send = partial(_mail, _subject(told), _body(told), to if indexes == every else [], sorted(bcc))
        yield _Letter(name, indexes, send)


def _subject(told: Sequence[Told]) -> str:
    """Return the title of the first alert that is not over, if any, and the number of the others."""
    first = next((each for each in told if each.event != Telling.CLOSED), told[0])
    if len(told) == 1:
        return first.title
    return gettext("%(title)s, and %(count)s more") % {"title": first.title, "count": len(told) - 1}


def _body(told: Sequence[Told]) -> str:
    if len(told) == 1:
        return "\n\n".join(filter(None, (told[0].text, told[0].url)))
    return "\n\n".join("\n".join(filter(None, (each.title, each.text, each.url))) for each in told)


def _mail(subject: str, body: str, to: list[str], bcc: list[str]) -> None:
    # No `connection` is passed: Django 6.1 chooses the backend by MAILERS, earlier versions by EMAIL_BACKEND.
    EmailMessage(subject=subject, body=body, to=to, bcc=bcc).send()


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
    """Return the host of `url`, numbered if several URLs have the same host. The rest of a URL may be a secret."""
    try:
        host = urlsplit(url).hostname or "…"
    except ValueError:
        host = "…"
    same = sum(name.split(" ")[0] == host for name in taken)
    return f"{host} ({same + 1})" if same else host
