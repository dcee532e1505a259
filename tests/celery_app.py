"""The test site's Celery app, for real workers and beats: the broker is `CELERY_BROKER_URL`.

`filesystem-atomic://localhost` keeps its files in the folder that `KPWA_TEST_BROKER_FOLDER` names.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from example_project import filesystem_broker


def configure_broker(app: Celery, broker_url: str, folder: str = "") -> None:
    """Set the broker of `app`. A filesystem broker keeps its files in `folder`."""
    app.conf.broker_url = broker_url
    is_in_files = broker_url.startswith(filesystem_broker.SCHEME)
    app.conf.broker_transport_options = filesystem_broker.transport_options(Path(folder)) if is_in_files else {}


filesystem_broker.register()
app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
configure_broker(app, os.environ.get("CELERY_BROKER_URL", ""), os.environ.get("KPWA_TEST_BROKER_FOLDER", ""))
app.autodiscover_tasks()
