"""INSERTs that skip rows whose key is stored already, and return the values that the database gave to the others.

Without a savepoint or a second statement, the ORM cannot skip such rows and return the others. It also builds each
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

from ..models.database import DatabaseNow
from .sql import as_django_has_it, dialect_of, now_sql, with_tables

# Fields whose values drivers accept as they are, so that a conversion by the field would only cost time. The foreign
# keys of messages and events are integers.
_AS_IT_IS = (models.CharField, models.TextField, models.IntegerField, models.BooleanField, models.ForeignKey)

_EMPTY: dict[type, str] = {type(None): "NULL", str: "''", int: "0", bool: "FALSE"}
"""The literal for an empty value, by the value's type."""

Sql = tuple[str, list[Any]]
"""A fragment of SQL and the values for its placeholders."""


class Column(NamedTuple):
    """A column that an INSERT writes."""

    field: Any
    name: str
    """The column's name, quoted."""
    placeholder: str
    type: str
    """The type to cast to on PostgreSQL; empty elsewhere."""

    @sensitive_variables()
    def prepared(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return `value` in the form that the driver accepts."""
        if value is None or isinstance(self.field, _AS_IT_IS):
            return value
        return self.field.get_db_prep_save(value, connection)


@cache
def columns_of(model: type[models.Model], using: str) -> tuple[Column, ...]:
    """Return all columns of `model` except an auto-incremented primary key."""
    connection: Any = connections[using]
    return tuple(
        _column(field, connection) for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)
    )


def _column(field: Any, connection: Any) -> Column:
    placeholder, type_ = dialect_of(connection.alias).placeholder(field, connection)
    return Column(field, connection.ops.quote_name(field.column), placeholder, type_)


def can_write(connection: BaseDatabaseWrapper) -> bool:
    """True if an INSERT can return its rows, which `insert()` needs. This is so on all databases except MySQL."""
    return bool(connection.features.can_return_rows_from_bulk_insert)


@sensitive_variables()
def written(
    model: type[models.Model], row: Mapping[str, Any], connection: BaseDatabaseWrapper, instead: Mapping[str, Sql]
) -> Sql:
    """Return a new row's values as SQL, one for each of `columns_of()`.

    `row`: the values by the fields' attribute names. `instead`: SQL to write in place of a value, by the field's
    attribute name.
    """
    plan = _plan(model, connection.alias)
    values = list(map(row.__getitem__, plan.attnames))
    parts = list(plan.placeholders)
    # The parameters of each SQL that replaces a value, by its position.
    given: dict[int, list[Any]] = {}
    for position, field in plan.converted:
        value = values[position]
        if isinstance(value, DatabaseNow):
            parts[position], given[position] = plan.now, []
        elif hasattr(value, "resolve_expression"):
            parts[position], given[position] = _compiled(model, value, connection)
        elif value is not None:
            values[position] = field.get_db_prep_save(value, connection)
    for attname, (sql, parameters) in instead.items():
        position = plan.attnames.index(attname)
        parts[position], given[position] = sql, parameters
    for position, value in enumerate(values):
        # Most columns of a new row are empty, and a literal costs less than a parameter.
        if not value and position not in given and type(value) in _EMPTY:
            parts[position], given[position] = parts[position].replace("%s", _EMPTY[type(value)]), []
    flat: list[Any] = []
    end = 0
    for position in sorted(given):
        flat += values[end:position]
        flat += given[position]
        end = position + 1
    return ", ".join(parts), flat + values[end:]


class _Plan(NamedTuple):
    """A model's columns as `written()` needs them. Cached, because a checkout waits for it."""

    attnames: tuple[str, ...]
    placeholders: tuple[str, ...]
    converted: tuple[tuple[int, Any], ...]
    """Positions and fields of the columns whose values the field converts, or that may hold an expression."""
    now: str


@cache
def _plan(model: type[models.Model], using: str) -> _Plan:
    columns = columns_of(model, using)
    return _Plan(
        tuple(column.field.attname for column in columns),
        tuple(column.placeholder for column in columns),
        tuple((at, column.field) for at, column in enumerate(columns) if not isinstance(column.field, _AS_IT_IS)),
        now_sql(using),
    )


def _compiled(model: type[models.Model], value: Any, connection: BaseDatabaseWrapper) -> Sql:
    query = model._base_manager.using(connection.alias).all().query
    # The ORM compiles it, because each database has its own syntax for adding seconds.
    sql, parameters = query.get_compiler(connection.alias).compile(value.resolve_expression(query))
    return str(sql), list(parameters)


@sensitive_variables()
def insert(
    model: type[models.Model], connection: BaseDatabaseWrapper, source: Sql, *, unless_known: str, returning: str
) -> list[dict[str, Any]] | None:
    """Insert the rows of `source` except those whose value of `unless_known` is stored already.

    Args:
        model: The model of the rows.
        connection: The connection to the database.
        source: VALUES or a SELECT, with its parameters, and with the table names of this site (`with_tables()`).
        unless_known: A column with a unique constraint.
        returning: The comma-separated output of the RETURNING clause.

    Returns:
        A dict for each inserted row, with its values converted as the ORM converts them. None if one of the rows is
        known on MariaDB, where none is inserted then. The failed statement undoes only itself, and the transaction goes
        on. (INSERT IGNORE would skip that row, but it would also ignore other errors.)
    """
    sql, parameters = source
    head, tail = _around(model, connection.alias, unless_known, returning)
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        try:
            cursor.execute(f"{head} {sql}{tail}", parameters)
        except IntegrityError as error:
            if dialect_of(connection.alias).is_refusal(error):
                return None
            raise
        names = tuple(column[0] for column in cursor.description)
        rows = cursor.fetchall()
    converters = _converters(model, connection.alias, names)
    found = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for name, column in converters:
            values[name] = as_django_has_it(values[name], column, connection)
        found.append(values)
    return found


@cache
def _around(model: type[models.Model], using: str, unless_known: str, returning: str) -> tuple[str, str]:
    """Return the parts of an INSERT before and after its rows."""
    connection = connections[using]
    columns = ", ".join(column.name for column in columns_of(model, using))
    conflict = dialect_of(using).unless_known(unless_known)
    table = connection.ops.quote_name(model._meta.db_table)
    return f"INSERT INTO {table} ({columns})", f"{conflict} RETURNING {with_tables(returning, using)}"


@cache
def _converters(model: type[models.Model], using: str, names: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Return the converters for those of `names` whose values this database returns in another form."""
    fields = {column.field.attname: column.field for column in columns_of(model, using)}
    columns = [(name, fields[name].cached_col) for name in names if name in fields]
    return tuple(each for each in columns if connections[using].ops.get_db_converters(each[1]))


@sensitive_variables()
def in_lists(
    rows: Sequence[models.Model],
    places: Sequence[int],
    connection: BaseDatabaseWrapper,
    instead_of_now: Mapping[str, Sql],
    always_listed: str,
) -> Sql:
    """Return the rows as a SELECT from one array per column. PostgreSQL reads that faster than a parameter per value.

    A value may be `DatabaseNow()`, but no other expression. A column with the same value in all rows is passed once
    instead of as an array.

    Args:
        rows: The rows.
        places: A number for each row.
        connection: The connection to the database.
        instead_of_now: SQL to write in place of `DatabaseNow()`, by the field's attribute name. It may use
            `given.place`, the row's number in `places`.
        always_listed: A column that is always passed as an array, because the statement refers to it as `given.…`.
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
