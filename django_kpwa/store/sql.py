"""Parts of hand-written statements: each database's expression for the present time, and the names of our tables."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models.database import DatabaseNow
from ..models.license import License

# Our tables' usual names, as the statements contain them.
_OURS = re.compile(r"\bdjango_kpwa_[a-z]+\b")


@cache
def now_sql(using: str) -> str:
    """`DatabaseNow()` as SQL of the database `using`."""
    sql, _ = License.objects.all().query.get_compiler(using).compile(DatabaseNow())
    return str(sql)


def with_tables(sql: str, using: str) -> str:
    """`sql` with the names that our tables have on this site, which may rename them by `class_prepared` (a prefix)."""
    renamed = _renamed()
    if not renamed:
        return sql
    quote = connections[using].ops.quote_name
    return _OURS.sub(lambda found: quote(renamed.get(found[0], found[0])).replace("%", "%%"), sql)


@cache
def _renamed() -> dict[str, str]:
    """The tables that have another name on this site, by their usual name."""
    ours = {
        f"{model._meta.app_label}_{model._meta.model_name}": model._meta.db_table
        for model in apps.get_app_config("django_kpwa").get_models()
        if not model._meta.proxy
    }
    return {usual: name for usual, name in ours.items() if name != usual}


def as_django_has_it(value: Any, column: Any, connection: BaseDatabaseWrapper) -> Any:
    """A value that a statement returned, converted as the ORM converts it; `column` is a field's `cached_col`."""
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    return value
