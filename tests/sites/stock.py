"""Settings of a site with Django's own admin, under a strict Content-Security-Policy, in the browser's language."""

from django.core.servers.basehttp import WSGIRequestHandler

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS
from tests.settings import KPWA as _KPWA

# `runserver` writes headers and body separately. With Nagle's algorithm, the body would wait 40 ms on every page.
WSGIRequestHandler.disable_nagle_algorithm = True

INSTALLED_APPS = [*_APPS, "tests.sites"]
ROOT_URLCONF = "tests.sites.urls"
LANGUAGES = [("en", "English"), ("id", "Bahasa Indonesia")]
MIDDLEWARE = [
    "tests.sites.policy.StrictPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # for a fast login
KPWA = {**_KPWA, "DEFAULT_LICENSE": "Toko Utama"}
# Errors go to the console, where a failing test can show them.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
