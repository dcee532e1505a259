"""Settings as on the shop's server: real gateway, broker, alerts and dead man's switch. Any use of them is recorded."""

from __future__ import annotations

import os

import dj_database_url

SECRET_KEY = "a shop's"
USE_TZ = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "shop"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}.test"}
CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

if not os.environ.get("WITHOUT_KPWA"):
    INSTALLED_APPS += ["django_kpwa"]
    KPWA = {
        "PUBLIC_URL": "https://toko-senja.id",
        "ALERT_EMAILS": ["pemilik@toko-senja.id"],
        "HEARTBEAT_URL": "http://127.0.0.1:1/alive",
        "BASE_URLS": ["http://127.0.0.1:1/backend"],
    }
