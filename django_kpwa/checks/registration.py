"""Registers the checks with Django without importing the modules that define them.

Django gets one check for each combination of tags. The first one that runs imports the modules with our checks; the
processes of a web server run none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core import checks

TAG = "kpwa"

Check = Callable[..., list[checks.CheckMessage]]

_checks: dict[tuple[bool, bool], list[Check]] = {
    (database, deploy): [] for database in (False, True) for deploy in (False, True)
}


def register(*, database: bool = False, deploy: bool = False) -> Callable[[Check], Check]:
    """Return a decorator that registers a check.

    Args:
        database: It queries the database, and gets Django's `database` tag in addition to ours.
        deploy: It runs only with `check --deploy`.
    """

    def decorate(check: Check) -> Check:
        _checks[database, deploy].append(check)
        return check

    return decorate


def register_with_django() -> None:
    for database, deploy in _checks:
        tags = (TAG, checks.Tags.database) if database else (TAG,)
        checks.register(_all_of(database, deploy), *tags, deploy=deploy)


def _all_of(database: bool, deploy: bool) -> Check:
    def check(app_configs: Any, **given: Any) -> list[checks.CheckMessage]:
        from . import alerts, configuration, gateways, receipts, webhooks  # noqa: F401
        from . import database as databases  # noqa: F401

        return [message for each in _checks[database, deploy] for message in each(app_configs, **given)]

    return check
