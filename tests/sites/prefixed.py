"""Serves a site below its prefix, like a proxy that removes the prefix from the path."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application

_application = get_wsgi_application()


def application(environ, start_response):
    prefix, path = settings.FORCE_SCRIPT_NAME, environ["PATH_INFO"]
    if not f"{path}/".startswith(f"{prefix}/"):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not of this site: its prefix is missing.\n"]
    return _application({**environ, "PATH_INFO": path.removeprefix(prefix)}, start_response)
