"""The site's Celery app, configured by the settings that begin with `CELERY_`."""

import os

from celery import Celery

from . import filesystem_broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
filesystem_broker.register()

app = Celery("example_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
