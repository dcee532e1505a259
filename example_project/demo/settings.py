"""The example shop's settings with short intervals, so that somebody who watches sees failures recover in seconds."""

from django_kpwa.schedule import beat_schedule
from example_project.demo.preparation import LICENSE_NAME
from example_project.settings import *  # noqa: F403
from example_project.settings import KPWA as _KPWA

KPWA = {
    **_KPWA,
    # Otherwise a second license that somebody adds in the admin would stop the till's receipts.
    "DEFAULT_LICENSE": LICENSE_NAME,
    # Short, because a killed worker's lease lasts a little longer than its longest possible call.
    "CALL_DEADLINE_SECONDS": 8,
    "RETRY_SECONDS": 2,
    "PROBE_SECONDS": 1,
}
CELERY_BEAT_SCHEDULE = beat_schedule(sweep_seconds=2)
