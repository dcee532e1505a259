"""What Celery beat runs for this app.

Imports no model, so that a settings module can use it:

    from django_kpwa.schedule import beat_schedule

    CELERY_BEAT_SCHEDULE = {**beat_schedule(), **yours}
"""

from __future__ import annotations

from typing import Any

TASK_LIMIT_SECONDS = 600
"""Above a slice and the longest call in it: a task that outlives this is stuck, and its lease has run out."""
_EXPIRES_SECONDS = 9.0 * TASK_LIMIT_SECONDS
_MAX_SWEEP_SECONDS = 60.0


def beat_schedule(sweep_seconds: float = 15.0) -> dict[str, dict[str, Any]]:
    """Return the schedule; a lost task is made good within `sweep_seconds`, at most 60.

    Raises `ValueError` for more: what has not swept for two minutes is taken for dead.

    Every entry expires, so that a worker that was stopped for days does not find a pile of them. It does so by the
    worker's clock, and not before an hour and a half: a worker that goes an hour ahead would run none of them.
    """

    if not 0 < sweep_seconds <= _MAX_SWEEP_SECONDS:
        raise ValueError(f"sweep_seconds is {sweep_seconds:g}; it must be above 0 and at most {_MAX_SWEEP_SECONDS:g}.")

    def every(seconds: float, task: str) -> dict[str, Any]:
        return {"task": task, "schedule": seconds, "options": {"expires": _EXPIRES_SECONDS, "ignore_result": True}}

    return {
        "kpwa-dispatch-due": every(sweep_seconds, "django_kpwa.dispatch_due"),
        "kpwa-process-webhooks": every(sweep_seconds, "django_kpwa.process_due_webhooks"),
        "kpwa-roll-up-statistics": every(60.0, "django_kpwa.roll_up_statistics"),
        "kpwa-purge": every(3600.0, "django_kpwa.purge"),
    }


BEAT_SCHEDULE = beat_schedule()
"""The schedule as most sites want it."""
