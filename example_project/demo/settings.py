"""The example shop's settings, with the patience of somebody who is watching: what is lost is made good in seconds."""

from django_kpwa.schedule import beat_schedule
from example_project.demo.preparation import LICENSE_NAME
from example_project.settings import *  # noqa: F403
from example_project.settings import KPWA as _KPWA

KPWA = {
    **_KPWA,
    # Whoever adds a second license in the admin does not stop the till's receipts.
    "DEFAULT_LICENSE": LICENSE_NAME,
    # A killed worker's lease lasts as long as its longest call could, and a little more.
    "CALL_DEADLINE_SECONDS": 8,
    "RETRY_SECONDS": 2,
    "PROBE_SECONDS": 1,
}
CELERY_BEAT_SCHEDULE = beat_schedule(sweep_seconds=2)
