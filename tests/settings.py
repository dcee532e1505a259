"""Settings of the test site. `DATABASE_URL` selects PostgreSQL, MariaDB or SQLite.

If it is not set, `tests.servers` starts a server, and sets its address before the test database is created.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import dj_database_url

from django_kpwa.schedule import beat_schedule

SECRET_KEY = "tests-only"
DEBUG = False
USE_TZ = True
TIME_ZONE = "Asia/Jakarta"
LANGUAGE_CODE = "en"
USE_I18N = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
# A secure hasher would take most of the suite's time, with thousands of rounds for each user.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_kpwa",
    "tests.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"

DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE_URL", "sqlite:///:memory:"))}
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    DATABASES["default"].setdefault("OPTIONS", {})["charset"] = "utf8mb4"
    if os.environ.get("MYSQL_TIME_ZONE"):
        DATABASES["default"]["OPTIONS"]["init_command"] = f"SET time_zone = '{os.environ['MYSQL_TIME_ZONE']}'"
    DATABASES["default"]["TEST"] = {"CHARSET": "utf8mb4"}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
        "timeout": 20,
    }
    # A file, so that threads and processes can share the database.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"kpwa-tests-{os.getpid()}.sqlite3")}

if os.environ.get("KPWA_TEST_KEEPS_CONNECTIONS"):
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    CELERY_DB_REUSE_MAX = 100

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "")
CELERY_BEAT_SCHEDULE = beat_schedule(1.0)

# Mail of processes that tests start.
if mail_folder := os.environ.get("KPWA_TEST_MAIL_FOLDER"):
    EMAIL_BACKEND, EMAIL_FILE_PATH = "django.core.mail.backends.filebased.EmailBackend", mail_folder

KPWA = {
    "GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway",
    "PUBLIC_URL": "https://shop.example",
    "PACE_SECONDS": (0, 0),
    # Test results must not depend on the time of day.
    "QUIET_HOURS": None,
}
# Changes for processes that tests start. See tests/processes.py.
KPWA |= json.loads(os.environ.get("KPWA_TEST_SETTINGS", "{}"))
# Constants of the package, by their dotted paths. See tests/shop/apps.py.
CONSTANTS = {path: KPWA.pop(path) for path in list(KPWA) if "." in path}
