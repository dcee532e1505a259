"""The test site's Celery app, for real workers and beats: the broker is `CELERY_BROKER_URL`.

`filesystem://` keeps its files in the folder that `KPWA_TEST_BROKER_FOLDER` names.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery


def configure_broker(app: Celery, broker_url: str, folder: str = "") -> None:
    """Point `app` at `broker_url`; `folder` is where a filesystem broker keeps its files."""
    app.conf.broker_url = broker_url
    if broker_url.startswith("filesystem:"):
        queue, control = Path(folder, "queue"), Path(folder, "control")
        for path in (queue, control):
            path.mkdir(parents=True, exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "control_folder": str(control),
            "polling_interval": 0.05,
        }


app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
configure_broker(app, os.environ.get("CELERY_BROKER_URL", ""), os.environ.get("KPWA_TEST_BROKER_FOLDER", ""))
app.autodiscover_tasks()
