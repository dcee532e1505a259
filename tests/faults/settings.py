"""Settings of processes that are made to fail: those of the test site, plus the app that causes failures."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.failing.FailingConfig"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    # Everything is logged, because the checks search the log for secrets.
    "root": {"handlers": ["console"], "level": "INFO"},
}
if "KPWA_TEST_SOFT_SHUTDOWN_SECONDS" in os.environ:
    CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = float(os.environ["KPWA_TEST_SOFT_SHUTDOWN_SECONDS"])
if os.environ.get("KPWA_TEST_NEXT_RELEASE"):
    MIGRATION_MODULES = {"django_kpwa": "tests.faults.next_release"}
DEBUG = bool(os.environ.get("KPWA_TEST_DEBUG"))
if os.environ.get("KPWA_TEST_OTHER_SCHEDULE"):
    CELERY_BEAT_SCHEDULE = {}
ROOT_URLCONF = os.environ.get("KPWA_TEST_URLS", "tests.urls")
