"""Queries of the ORM that are compiled once and executed many times with different values.

To build and compile one of these queries takes Django longer than the database takes to run it. They are written like
any other query, with a `Parameter` in the place of each value that is given at execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from django.db.models import DurationField, Expression, Field, Model, QuerySet
from django.db.models.sql import InsertQuery, UpdateQuery
from django.views.decorators.debug import sensitive_variables

from ..models.database import DatabaseNow, InSeconds


class Parameter(Expression):
    """A placeholder for a value that is given by name at each execution."""

    def __init__(self, name: str, output_field: Any) -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class CompiledQuery:
    """A query's SQL, its parameters in order, and the converters for the rows that it returns."""

    def __init__(self, query: Any, using: str) -> None:
        compiler = query.get_compiler(using)
        if isinstance(query, InsertQuery):
            compiler.returning_fields = [query.get_meta().pk]
            ((self._sql, self._parameters),) = compiler.as_sql()
            return
        self._sql, self._parameters = compiler.as_sql()
        if not isinstance(query, UpdateQuery):
            self._names = list(query.selected)
            self._converters = compiler.get_converters([expression for expression, _, _ in compiler.select])

    @sensitive_variables()
    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        """Execute the query. `values` must have a value for the name of each `Parameter`."""
        cursor.execute(*self.with_values(values, cursor.db))

    @sensitive_variables()
    def with_values(self, values: Mapping[str, Any], connection: Any) -> tuple[str, list[Any]]:
        """Return the SQL and its parameters, with `values` as for `execute()`."""
        return self._sql, [
            each.output_field.get_db_prep_value(values[each.name], connection) if isinstance(each, Parameter) else each
            for each in self._parameters
        ]

    @sensitive_variables()
    def by_name(self, row: tuple[Any, ...], connection: Any) -> dict[str, Any]:
        """Return a row of a `.values()` query as a dict, with its values converted as the ORM converts them."""
        values = list(row)
        for place, (converters, expression) in self._converters.items():
            for convert in converters:
                values[place] = convert(values[place], expression, connection)
        return dict(zip(self._names, values, strict=True))


@sensitive_variables()
def update_where(connection: Any, model: type[Model], lookups: Mapping[str, Any], columns: Mapping[str, Any]) -> int:
    """Run `model.objects.filter(**lookups).update(**columns)`, compiled once for each set of names and expressions.

    `lookups`: field names and the values that they must equal. None is not allowed, because SQL has no `=` for NULL.
    `columns`: values, or expressions such as `DatabaseNow()` and `in_seconds(…)`.

    Returns the number of rows that matched.
    """
    query = _compiled_update(connection.alias, model, tuple(lookups), _shape_of(columns))
    values = {f"where {name}": value for name, value in lookups.items()} | _values_of(columns)
    with connection.cursor() as cursor:
        query.execute(cursor, values)
        return int(cursor.rowcount)


_Shape = tuple[tuple[str, Any], ...]
"""What a compiled statement depends on: the name of each column with its expression, or None for a plain value."""
_BY_CLASS = (DatabaseNow, InSeconds)


def _shape_of(columns: Mapping[str, Any]) -> _Shape:
    """Return the shape of a statement that writes `columns`.

    The two most frequent expressions are represented by their class, because Django hashes an expression by binding its
    constructor's arguments, which takes longer than the statement. Other expressions that run for each message should
    be constants of their module: an object computes its hash once.
    """
    shape: list[tuple[str, Any]] = []
    for name, value in columns.items():
        if type(value) in _BY_CLASS:
            shape.append((name, type(value)))
        else:
            shape.append((name, value if hasattr(value, "resolve_expression") else None))
    return tuple(shape)


def _values_of(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with which a statement that writes `columns` is executed."""
    # The number of seconds of an `in_seconds()` is a parameter: otherwise the cache would grow with every wait.
    return {
        name: timedelta(seconds=value.seconds) if type(value) is InSeconds else value for name, value in columns.items()
    }


def _written(shape: _Shape, field_of: Callable[[str], Any]) -> dict[str, Any]:
    """Return what a compiled statement writes to each column: an expression, or the `Parameter` for its value."""
    columns: dict[str, Any] = {}
    for name, expression in shape:
        if expression is None:
            columns[name] = Parameter(name, field_of(name))
        elif expression is DatabaseNow:
            columns[name] = DatabaseNow()
        elif expression is InSeconds:
            columns[name] = DatabaseNow() + Parameter(name, DurationField())
        else:
            columns[name] = expression
    return columns


@cache
def _compiled_update(using: str, model: type[Model], lookups: tuple[str, ...], shape: _Shape) -> CompiledQuery:
    def field_of(name: str) -> Field[Any, Any]:
        return model._meta.pk if name == "pk" else model._meta.get_field(name)  # type: ignore[return-value]

    rows = model._base_manager.using(using)
    query: Any = rows.filter(**{name: Parameter(f"where {name}", field_of(name)) for name in lookups}).query.chain(
        UpdateQuery
    )
    query.add_update_values(_written(shape, field_of))
    return CompiledQuery(query, using)


@sensitive_variables()
def insert_row(connection: Any, model: type[Model], columns: Mapping[str, Any]) -> int:
    """Run `model.objects.create(**columns).pk`, compiled once for each set of names and expressions.

    `columns`: values by the fields' attribute names, or expressions such as `DatabaseNow()`. The other columns get
    their defaults, which must be constant. The model must have an auto-incremented primary key.

    Raises `ValueError` if an omitted column has a default that is computed for each row.
    """
    query = _compiled_insert(connection.alias, model, _shape_of(columns))
    with connection.cursor() as cursor:
        query.execute(cursor, _values_of(columns))
        if connection.features.can_return_columns_from_insert:
            return int(cursor.fetchone()[0])
        return int(connection.ops.last_insert_id(cursor, model._meta.db_table, model._meta.pk.column))


@cache
def _compiled_insert(using: str, model: type[Model], shape: _Shape) -> CompiledQuery:
    fields = {field.attname: field for field in model._meta.concrete_fields if field is not model._meta.pk}
    given = dict(shape)
    computed = [
        name for name, field in fields.items() if field.has_default() and callable(field.default) and name not in given
    ]
    if computed:
        raise ValueError(f"{', '.join(computed)}: the default is computed for each row, so the value has to be given.")
    row = model(**_written(shape, fields.__getitem__))
    query: Any = InsertQuery(model)
    query.insert_values(list(fields.values()), [row])
    return CompiledQuery(query, using)


@sensitive_variables()
def first_of(
    connection: Any, build: Callable[[], QuerySet[Any, Any]], values: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the first row of the `.values()` query that `build` returns, as a dict; None if there is no row.

    `build` is called only once for each database. Whatever varies between calls has to be a `Parameter`, with its value
    in `values`.
    """
    query = compiled(connection.alias, build)
    with connection.cursor() as cursor:
        query.execute(cursor, values)
        row = cursor.fetchone()
    return None if row is None else query.by_name(row, connection)


@cache
def compiled(using: str, build: Callable[[], QuerySet[Any, Any]]) -> CompiledQuery:
    """Return the query for the first row of `build()`, see `first_of()`."""
    query = build()[:1].using(using).query
    return CompiledQuery(query, using)
