"""The Celery beat schedule of this app.

This module imports no model, so that a settings module can import it:

    from django_kpwa.schedule import beat_schedule

    CELERY_BEAT_SCHEDULE = {**beat_schedule(), **yours}
"""

from __future__ import annotations

from typing import Any

TASK_LIMIT_SECONDS = 600
"""Hard time limit of a task: longer than a slice and the longest call after it. A task that runs longer is stuck, and
its lease has expired."""
_EXPIRES_SECONDS = 9.0 * TASK_LIMIT_SECONDS
_MAX_SWEEP_SECONDS = 60.0


def beat_schedule(sweep_seconds: float = 15.0) -> dict[str, dict[str, Any]]:
    """Return the entries for `CELERY_BEAT_SCHEDULE`.

    `sweep_seconds`: interval of the task that recovers what was lost, above 0 and at most 60. Without that task for a
    minute and a half, a site is reported as dead.

    Raises `ValueError` for another interval.

    Every task expires, so that a worker that was stopped for days does not find thousands of them. Workers compare the
    expiry with their own clock, so it is an hour and a half: with a shorter one, a worker whose clock is an hour ahead
    would run no task at all.
    """

    if not 0 < sweep_seconds <= _MAX_SWEEP_SECONDS:
        raise ValueError(f"sweep_seconds is {sweep_seconds:g}; it must be above 0 and at most {_MAX_SWEEP_SECONDS:g}.")

    def every(seconds: float, task: str) -> dict[str, Any]:
        return {"task": task, "schedule": seconds, "options": {"expires": _EXPIRES_SECONDS, "ignore_result": True}}

    return {
        "kpwa-dispatch-due": every(sweep_seconds, "django_kpwa.dispatch_due"),
        "kpwa-roll-up-statistics": every(60.0, "django_kpwa.roll_up_statistics"),
        "kpwa-look-for-missing": every(3600.0, "django_kpwa.look_for_missing"),
        "kpwa-purge": every(3600.0, "django_kpwa.purge"),
    }


BEAT_SCHEDULE = beat_schedule()
"""The schedule with the default interval."""
