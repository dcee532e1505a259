"""`DATABASE_URL`, `BENCH_BROKER_URL`, `BENCH_GATEWAY_URL` and `BENCH_KPWA` (JSON) come from the row."""

from __future__ import annotations

import json
import os

import dj_database_url

# For the row `start_up`: this site without the app (`kpwa`), or without Celery and DRF as well (`all`).
WITHOUT = os.environ.get("BENCH_WITHOUT", "")

SECRET_KEY = "benchmarks-only"
DEBUG = False
USE_TZ = True
TIME_ZONE = "Asia/Jakarta"
LANGUAGE_CODE = "en"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.site.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *(["rest_framework"] if WITHOUT == "kpwa" else ["django_kpwa"] if not WITHOUT else []),
    *filter(None, os.environ.get("BENCH_APPS", "").split(",")),
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
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
# As docs/running.md says: otherwise Celery would close the connection around each task, and our tasks an old one.
CELERY_DB_REUSE_MAX = int(os.environ.get("BENCH_DB_REUSE_MAX", "100"))
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("BENCH_CONN_MAX_AGE", "60"))
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    DATABASES["default"]["OPTIONS"] = {"charset": "utf8mb4"}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
        "timeout": 20,
    }

CELERY_BROKER_URL = os.environ.get("BENCH_BROKER_URL", "")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A separate queue: brokers are shared, and other sites' tasks must not run here.
CELERY_TASK_DEFAULT_QUEUE = "kpwa-benchmarks"
if not WITHOUT:
    from django_kpwa.schedule import beat_schedule

    CELERY_BEAT_SCHEDULE = beat_schedule(float(os.environ.get("BENCH_SWEEP_SECONDS", "15")))

POST_OFFICE = {"CELERY_ENABLED": True, "BACKENDS": {"default": "benchmarks.site.peers.mail.WhatsAppBackend"}}

# A row measures the same at any hour.
KPWA = {
    "PACE_SECONDS": (0, 0),
    "QUIET_HOURS": None,
    "BASE_URLS": [os.environ.get("BENCH_GATEWAY_URL", "http://127.0.0.1:9")],
}
KPWA |= json.loads(os.environ.get("BENCH_KPWA", "{}"))
