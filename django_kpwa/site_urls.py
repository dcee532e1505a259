"""The site's own URLs: finding one by its name, and distinguishing them from those of other sites."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import url_has_allowed_host_and_scheme

MAX_URL_LENGTH = 2000
"""Maximum length of a URL to redirect to; Django refuses longer ones."""


def find_url(name: str, *arguments: object, current_app: str | None = None) -> str:
    """Return the URL path of the page called `name`; empty if the site does not include that page."""
    __traceback_hide__ = True  # an argument may be a webhook's token
    try:
        return reverse(name, args=arguments, current_app=current_app)
    except NoReverseMatch:
        return ""


def is_url_of_this_site(request: HttpRequest, url: str) -> bool:
    """True if a browser may be redirected to `url`: a path from the site's root, or an address with the site's host.

    Names of views and relative paths are refused.
    """
    return (
        url.startswith(("/", "http://", "https://"))
        and len(url) <= MAX_URL_LENGTH
        and url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    )
