"""Settings of the example shop. By default it needs no servers; environment variables change that.

| variable | meaning | default |
|---|---|---|
| `SHOP_HOME` | folder of the database, the broker's files and the secret key | `var/` beside `manage.py` |
| `DATABASE_URL` | `postgres://…`, `mysql://…`, `sqlite:///…` | SQLite in `SHOP_HOME` |
| `CELERY_BROKER_URL` | `redis://…`, `amqp://…` | files in `SHOP_HOME` |
| `SECRET_KEY` | Django's | generated once and stored in `SHOP_HOME` |
| `DEBUG` | `0` or `1` | `1` |
| `ALLOWED_HOSTS` | host names, separated by commas | this machine's own |
| `PUBLIC_URL` | where the gateway reaches this site; `https://` makes all of it https | `http://127.0.0.1:8000` |
| `BEHIND_TLS_PROXY` | `1`: a proxy terminates TLS, and always overwrites `X-Forwarded-Proto` | `0` |
| `SANDBOX_URL` | the simulated phone; empty: the real gateway | `http://127.0.0.1:8900` |
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

import dj_database_url

from django_kpwa.schedule import beat_schedule

from . import filesystem_broker

BASE_DIR = Path(__file__).resolve().parent.parent
SHOP_HOME = Path(os.environ.get("SHOP_HOME") or BASE_DIR / "var")
SHOP_HOME.mkdir(parents=True, exist_ok=True)


def _kept_secret_key() -> str:
    """Return the same key in all processes and runs, because the licenses' API keys are encrypted with it."""
    path = SHOP_HOME / "secret_key"
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=SHOP_HOME)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(name, path)
        except FileExistsError:
            pass  # another process of the first start was faster; use its key
        Path(name).unlink()
    return path.read_text()


SECRET_KEY = os.environ.get("SECRET_KEY") or _kept_secret_key()
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_kpwa",
    "example_project.sales",
    "example_project.demo",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "example_project.language.AdminLanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
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
if DEBUG:
    # The demo page shows the till in a frame beside the phone.
    X_FRAME_OPTIONS = "SAMEORIGIN"

DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{SHOP_HOME / 'shop.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Readers and one writer can work concurrently, and a transaction waits for the lock at its beginning.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }
elif DATABASES["default"]["ENGINE"].endswith("mysql"):
    DATABASES["default"].setdefault("OPTIONS", {})["charset"] = "utf8mb4"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "id"
LANGUAGES = [("id", "Bahasa Indonesia"), ("en", "English")]
TIME_ZONE = "Asia/Jakarta"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = SHOP_HOME / "static"

SHOP_NAME = "Kopi Senja"
SHOP_ADDRESS = "Jl. Cikini Raya 45, Jakarta Pusat"

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or f"{filesystem_broker.SCHEME}://localhost"
if CELERY_BROKER_URL.startswith(filesystem_broker.SCHEME):
    CELERY_BROKER_TRANSPORT_OPTIONS = filesystem_broker.transport_options(SHOP_HOME / "broker")
    # Remote control would leave a queue behind for every worker that was killed; with files, nothing deletes these.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
elif CELERY_BROKER_URL.startswith("redis"):
    # Otherwise, publishing to an unresponsive Redis would block for ever.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 5}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# Database connections are kept between tasks; with CONN_MAX_AGE, our tasks close those that are old or broken.
CELERY_DB_REUSE_MAX = 100
DATABASES["default"]["CONN_MAX_AGE"] = 0 if DEBUG else 60  # runserver has a new thread for each request
CELERY_TIMEZONE = TIME_ZONE
# A task drives a whole license, so a prefetched task would only wait behind it.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BEAT_SCHEDULE_FILENAME = str(SHOP_HOME / "celerybeat-schedule")

PUBLIC_URL = os.environ.get("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
SANDBOX_URL = os.environ.get("SANDBOX_URL", "http://127.0.0.1:8900").rstrip("/")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
# Over plain http, as on a developer's machine, browsers would not send secure cookies back.
IS_HTTPS = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = PUBLIC_URL.startswith("https://")
if IS_HTTPS:
    # Browsers remember for a day to use https only. Once everything works, make it a year.
    SECURE_HSTS_SECONDS = 86_400
    # HSTS for subdomains and preloading are decisions about the whole domain, not about one site.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if os.environ.get("BEHIND_TLS_PROXY") == "1":
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
KPWA = {
    "PUBLIC_URL": PUBLIC_URL,
    # E-mail addresses that receive alerts when receipts stop going out, separated by commas.
    "ALERT_EMAILS": [email.strip() for email in os.environ.get("ALERT_EMAILS", "").split(",") if email.strip()],
}
if SANDBOX_URL:
    # The simulated phone. A real shop omits this setting, and the gateway's documented addresses are used.
    KPWA["BASE_URLS"] = [f"{SANDBOX_URL}/backend"]
CELERY_BEAT_SCHEDULE = beat_schedule(sweep_seconds=5)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django_kpwa": {"level": "INFO"}},
}
