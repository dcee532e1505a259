"""Checks that a webhook would reach its view: that it has an address, and is not redirected, because gateways do not
follow redirects.

The site's own redirecting middlewares are called with a request like the gateway's, so that subclasses are covered.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils import translation
from django.utils.module_loading import import_string

from ..conf import Settings
from ..gateway import load_gateway_class
from ..logs import get_logger
from ..rehearsal import is_rehearsal
from ..site_urls import find_url
from ..webhook_address import useless
from .configuration import make_warning, with_settings

logger = get_logger("django_kpwa.checks")


@with_settings
def check_webhook_arrives(conf: Settings) -> list[CheckMessage]:
    """W075 and W076: the site redirects webhooks, or Django refuses their host.

    Tests run with DEBUG off, so Django refuses the hosts of a developer's machine, which the gateway cannot reach
    either. Both are correct in the settings, so neither W076 nor W078 is reported in tests.
    """
    public = urlsplit(conf.PUBLIC_URL)
    if not public.hostname:
        return []
    try:
        target = _redirect(public.netloc, is_https=public.scheme == "https")
    except DisallowedHost:
        if is_rehearsal():
            return []
        return [
            make_warning(
                "W076",
                "The host of KPWA['PUBLIC_URL'] is not in ALLOWED_HOSTS: Django refuses every webhook.",
                f"Add {public.hostname!r} to ALLOWED_HOSTS.",
            )
        ]
    return [] if target is None else [make_warning("W075", *_explained(target, public.netloc))]


@with_settings
def check_webhook_address(conf: Settings) -> list[CheckMessage]:
    """W077 and W078: the site does not include our URLs, or the gateway cannot reach `PUBLIC_URL`."""
    if not conf.PUBLIC_URL:
        return []
    found = []
    try:
        has_webhook = bool(find_url("django_kpwa:webhook", "x"))
    except ImproperlyConfigured:
        has_webhook = True  # Django's own checks report it
    if not has_webhook:
        found.append(
            make_warning(
                "W077",
                "KPWA['PUBLIC_URL'] is set, but the site's URLs do not include django_kpwa.urls: neither the "
                "webhook nor the counter's buttons have an address.",
                'Add path("kpwa/", include("django_kpwa.urls")) to the site\'s urls.py.',
            )
        )
    with translation.override("en"):
        reason = useless(conf.PUBLIC_URL, conf.BASE_URLS) if _leaves_the_process() and not is_rehearsal() else ""
    if reason:
        found.append(make_warning("W078", reason, "Then run `manage.py kpwa webhook set`."))
    return found


def _leaves_the_process() -> bool:
    try:
        return load_gateway_class().leaves_the_process
    except (ImproperlyConfigured, ImportError):
        return False  # E001 reports it


def _redirect(host: str, *, is_https: bool) -> str | None:
    """Return the URL to which the site's middlewares redirect a webhook for `host`; None if it reaches its view."""
    for path in settings.MIDDLEWARE:
        try:
            middleware = import_string(path)
        except ImportError:
            continue  # Django reports it
        if not (isinstance(middleware, type) and issubclass(middleware, (CommonMiddleware, SecurityMiddleware))):
            continue
        answer = None
        try:
            answer = middleware(_view).process_request(_request(host, is_https=is_https))
        except DisallowedHost:
            raise
        except Exception as error:
            # A site's own middleware may need attributes that this request lacks; the check must not fail for that.
            logger.debug("%s could not be checked for redirects of a webhook (%s).", path, type(error).__name__)
        if answer is not None and answer.has_header("Location"):
            return str(answer["Location"])
    return None


def _view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def _request(host: str, *, is_https: bool) -> HttpRequest:
    """A webhook's request as a TLS-terminating proxy forwards it: plain HTTP, with the header that the site trusts."""
    request = HttpRequest()
    request.method = "POST"
    request.path = request.path_info = find_url("django_kpwa:webhook", "x") or "/kpwa/webhooks/x/"
    request.META = {"HTTP_HOST": host, "SERVER_NAME": host, "SERVER_PORT": "80", "REQUEST_METHOD": "POST"}
    if settings.USE_X_FORWARDED_HOST:
        request.META["HTTP_X_FORWARDED_HOST"] = host
    if is_https and settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        request.META[name] = value
    return request


def _explained(target: str, host: str) -> tuple[str, str]:
    problem = "Django would redirect every webhook, but gateways do not follow redirects: "
    to = urlsplit(target)
    if to.netloc != host:
        wanted = f"Use {to.netloc!r} as the host in KPWA['PUBLIC_URL'], then run `manage.py kpwa webhook set`."
        return f"{problem}the site redirects {host!r} to {to.netloc!r} (PREPEND_WWW or SECURE_SSL_HOST).", wanted
    if to.scheme == "https":
        return (
            f"{problem}SECURE_SSL_REDIRECT takes a proxy's requests for plain HTTP.",
            "Use https:// in KPWA['PUBLIC_URL'], and set the header that your proxy sends, for example "
            "SECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https'). If there is no proxy in front of "
            "Django, silence this check.",
        )
    return f"{problem}to another path.", "Find out which of MIDDLEWARE redirects, and exclude the webhook's path."
