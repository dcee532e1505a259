"""INSERTs that skip rows whose key is stored already, and return the values that the database gave to the others.

The ORM cannot skip such rows and return the others without a savepoint or a second statement, and it builds each
statement anew. The columns are taken from the model, so that a new column needs no change here.
"""

# ruff: noqa: S608 - names of tables and columns are the models', values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db import IntegrityError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow
from .sql import as_django_has_it, now_sql, with_tables

_MYSQL_DUPLICATE = 1062
# Fields whose values drivers accept as they are; the conversion by the field would only cost time.
_AS_IT_IS = (models.CharField, models.TextField, models.IntegerField, models.BooleanField)

Sql = tuple[str, list[Any]]
"""A fragment of SQL and the values for its placeholders."""


class Column(NamedTuple):
    """A column that an INSERT writes."""

    field: Any
    name: str
    """The column's name, quoted."""
    placeholder: str
    type: str
    """PostgreSQL's type, for a cast: in a SELECT it cannot infer a value's type from the column. Empty elsewhere."""

    @sensitive_variables()
    def prepared(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """`value` in the form that the driver accepts."""
        if value is None or isinstance(self.field, _AS_IT_IS):
            return value
        return self.field.get_db_prep_save(value, connection)


@cache
def columns_of(model: type[models.Model], using: str) -> tuple[Column, ...]:
    """All columns of `model` except an auto-incremented primary key."""
    connection: Any = connections[using]
    return tuple(
        _column(field, connection) for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)
    )


def _column(field: Any, connection: Any) -> Column:
    type_, placeholder = "", "%s"
    if connection.vendor == "postgresql":
        type_ = field.db_type(connection)
        # A cast to varchar(n) would silently truncate a longer value, which the column itself refuses.
        type_ = "text" if type_.startswith("varchar") else type_
        placeholder = f"%s::{type_}"
    elif connection.vendor == "mysql" and isinstance(field, models.BinaryField):
        placeholder = "_binary %s"  # bytes have no character set
    return Column(field, connection.ops.quote_name(field.column), placeholder, type_)


def can_write(connection: BaseDatabaseWrapper) -> bool:
    """True if an INSERT can return its rows, so that `insert()` can be used: everywhere except on MySQL."""
    return bool(connection.features.can_return_rows_from_bulk_insert)


@sensitive_variables()
def written(row: models.Model, connection: BaseDatabaseWrapper, instead: Mapping[str, Sql]) -> Sql:
    """An unsaved row's values as SQL, one for each of `columns_of()`.

    `instead`: SQL to write in place of a value, by the field's attribute name.
    """
    parts: list[str] = []
    parameters: list[Any] = []
    for column in columns_of(type(row), connection.alias):
        attname = column.field.attname
        value = getattr(row, attname)
        if attname in instead:
            sql, given = instead[attname]
        elif isinstance(value, DatabaseNow):
            sql, given = now_sql(connection.alias), []
        elif hasattr(value, "resolve_expression"):
            sql, given = _compiled(type(row), value, connection)
        else:
            sql, given = column.placeholder, [column.prepared(value, connection)]
        parts.append(sql)
        parameters += given
    return ", ".join(parts), parameters


def _compiled(model: type[models.Model], value: Any, connection: BaseDatabaseWrapper) -> Sql:
    query = model._base_manager.using(connection.alias).all().query
    # Compiled by the ORM, because each database has its own syntax for adding seconds.
    sql, parameters = query.get_compiler(connection.alias).compile(value.resolve_expression(query))
    return str(sql), list(parameters)


@sensitive_variables()
def insert(
    model: type[models.Model], connection: BaseDatabaseWrapper, source: Sql, *, unless_known: str, returning: str
) -> list[dict[str, Any]] | None:
    """Insert the rows of `source` (VALUES or a SELECT) except those whose value of `unless_known` is stored already.

    `unless_known`: a column with a unique constraint. `returning`: the comma-separated output of the RETURNING clause.

    Returns a dict for each inserted row, with its values converted as the ORM converts them. None: on MariaDB one of
    the rows is known, so that none was inserted; the failed statement undoes only itself, and the transaction goes on.
    (INSERT IGNORE would skip that row, but would also ignore other errors.)
    """
    columns = ", ".join(column.name for column in columns_of(model, connection.alias))
    sql, parameters = source
    conflict = "" if connection.vendor == "mysql" else f" ON CONFLICT ({unless_known}) DO NOTHING"
    table = connection.ops.quote_name(model._meta.db_table)
    statement = f"INSERT INTO {table} ({columns}) {with_tables(sql, connection.alias)}{conflict}"
    statement += f" RETURNING {with_tables(returning, connection.alias)}"
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        try:
            cursor.execute(statement, parameters)
        except IntegrityError as error:
            if connection.vendor == "mysql" and error.args[:1] == (_MYSQL_DUPLICATE,):
                return None
            raise
        names = [column[0] for column in cursor.description]
        rows = cursor.fetchall()
    known = {column.field.attname: column.field for column in columns_of(model, connection.alias)}
    fields = [known.get(name) for name in names]
    return [
        {
            name: value if field is None else as_django_has_it(value, field.cached_col, connection)
            for name, value, field in zip(names, row, fields, strict=True)
        }
        for row in rows
    ]


@sensitive_variables()
def in_lists(
    rows: Sequence[models.Model],
    places: Sequence[int],
    connection: BaseDatabaseWrapper,
    instead_of_now: Mapping[str, Sql],
    always_listed: str,
) -> Sql:
    """The rows as a SELECT from one array per column, which PostgreSQL reads faster than one parameter per cell.

    A value may be `DatabaseNow()`, but no other expression. `instead_of_now`: SQL to write in its place, by the field's
    attribute name; it may use `given.place`, the row's element of `places`.

    A column with the same value in all rows is passed once, not as an array, except `always_listed`, which the
    statement refers to as `given.…`.
    """
    now = now_sql(connection.alias)
    shown, lists, names = [], [], []
    parameters: list[Any] = []
    for column in columns_of(type(rows[0]), connection.alias):
        attname = column.field.attname
        values = [getattr(row, attname) for row in rows]
        sql, given = instead_of_now.get(attname, (now, []))
        first = values[0]
        if attname != always_listed and all(value is first or value == first for value in values):
            if isinstance(first, DatabaseNow):
                shown.append((sql, given))
            else:
                shown.append((column.placeholder, [column.prepared(first, connection)]))
            continue
        is_now = [isinstance(value, DatabaseNow) for value in values]
        lists.append(
            [None if now_ else column.prepared(value, connection) for now_, value in zip(is_now, values, strict=True)]
        )
        names.append((column.name, f"%s::{column.type}[]"))
        shown.append((f"COALESCE(given.{column.name}, {sql})", given) if any(is_now) else (f"given.{column.name}", []))
    for _, given in shown:
        parameters += given
    select = ", ".join(sql for sql, _ in shown)
    unnest = ", ".join([*(cast for _, cast in names), "%s::integer[]"])
    source = f"SELECT {select} FROM UNNEST({unnest}) AS given ({', '.join([*(name for name, _ in names), 'place'])})"
    return source, [*parameters, *lists, list(places)]
