"""Django settings of the sandbox's own process: no database, no session, nothing of the host's site."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SECRET_KEY = secrets.token_urlsafe(32)  # nothing signed outlives the process
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "django_kpwa.sandbox.urls"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # holds requests against ALLOWED_HOSTS
DATABASES: dict[str, dict[str, str]] = {}
APPEND_SLASH = False
# A browser that was led to another name for this address (DNS rebinding) must not read the chats. Where the sandbox
# was deliberately opened to a network, the names it is reached by cannot be known.
ALLOWED_HOSTS = os.environ.get("KPWA_SANDBOX_ALLOWED_HOSTS", "localhost 127.0.0.1 [::1]").split()
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
    }
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    # Error answers are what the sandbox is for; "Bad Request: /…" would only fill the screen, with numbers in it.
    "loggers": {"django.request": {"level": "CRITICAL"}},
}
