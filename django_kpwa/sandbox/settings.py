"""Django settings of the sandbox's process: no database, no sessions, nothing from the host's site."""

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
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # checks requests against ALLOWED_HOSTS
DATABASES: dict[str, dict[str, str]] = {}
APPEND_SLASH = False
# A page that points another host name at this address (DNS rebinding) must not be able to read the chats. If you have
# opened the sandbox to a network (`--host`), all names are allowed, because they cannot be known in advance.
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
    # The sandbox answers with errors on purpose. "Bad Request: /…" would fill the screen and show phone numbers.
    "loggers": {"django.request": {"level": "CRITICAL"}},
}
