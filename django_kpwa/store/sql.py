"""What statements need that are written out: the time as each database has it, and its word for a clash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.apps import apps
from django.db import IntegrityError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow
from ..models.license import License

_MYSQL_DUPLICATE = 1062
# As the statements call our tables.
_OURS = re.compile(r"\bdjango_kpwa_[a-z]+\b")


def can_write_out(connection: BaseDatabaseWrapper) -> bool:
    """Whether an INSERT can be written out that leaves out what is known and returns the rest: not on MySQL."""
    return connection.vendor in ("postgresql", "sqlite", "mysql") and bool(
        connection.features.can_return_rows_from_bulk_insert
    )


def unless_known(connection: BaseDatabaseWrapper, column: str) -> str:
    """What an INSERT ends in that leaves out rows whose `column` is known.

    Empty on MariaDB, where the statement fails, and it alone is undone (`insert`): its IGNORE ignores more than that.
    """
    return "" if connection.vendor == "mysql" else f"ON CONFLICT ({column}) DO NOTHING"


@sensitive_variables()
def insert(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
    """Execute an INSERT and return what it returns. None: on MariaDB something in it is known, so it stored nothing."""
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        try:
            cursor.execute(with_tables(statement, connection.alias), parameters)
        except IntegrityError as error:
            if not _is_clash(error, connection):
                raise
            return None
        return list(cursor.fetchall())


def _is_clash(error: IntegrityError, connection: BaseDatabaseWrapper) -> bool:
    """Whether MariaDB refused a statement because of a unique column."""
    return connection.vendor == "mysql" and error.args[:1] == (_MYSQL_DUPLICATE,)


@cache
def now_sql(using: str) -> str:
    """`DatabaseNow()` as that database has it."""
    sql, _ = License.objects.all().query.get_compiler(using).compile(DatabaseNow())
    return str(sql)


def database_now(using: str) -> datetime:
    """The database's present time, for what is computed here and compared with its times."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {now_sql(using)}", ())  # with parameters: its percent signs are doubled for them
        (now,) = cursor.fetchone()
    read: datetime = as_time(now, License._meta.get_field("created_at").cached_col, connections[using])
    return read


def with_tables(sql: str, using: str) -> str:
    """`sql` with our tables' names as this site has them: a site may give them a prefix by `class_prepared`."""
    renamed = _renamed()
    if not renamed:
        return sql
    quote = connections[using].ops.quote_name
    return _OURS.sub(lambda found: quote(renamed.get(found[0], found[0])).replace("%", "%%"), sql)


@cache
def _renamed() -> dict[str, str]:
    """Our tables that are called otherwise here than they usually are."""
    ours = {
        f"{model._meta.app_label}_{model._meta.model_name}": model._meta.db_table
        for model in apps.get_app_config("django_kpwa").get_models()
        if not model._meta.proxy
    }
    return {usual: name for usual, name in ours.items() if name != usual}


def as_time(value: Any, column: Any, connection: BaseDatabaseWrapper) -> Any:
    """A time that a statement returned as Django has it; `column`: a `DateTimeField`'s."""
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    return value
