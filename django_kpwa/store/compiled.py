"""Queries of the ORM that are compiled once and executed many times, each time with other values.

To build and compile a query costs Django more than it costs the database to run it. These are written as any other
query is, with a `Parameter` where a value is given at each execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from django.db.models import DurationField, Expression, Field, Model, QuerySet
from django.db.models.sql import UpdateQuery
from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow, InSeconds


class Parameter(Expression):
    """Stands for a value that is given, by its name, at each execution."""

    def __init__(self, name: str, output_field: Any) -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class CompiledQuery:
    """The SQL of a query, the places of its parameters, and how its rows are read."""

    def __init__(self, query: Any, using: str) -> None:
        compiler = query.get_compiler(using)
        self._sql, self._parameters = compiler.as_sql()
        if not isinstance(query, UpdateQuery):
            self._names = list(query.selected)
            self._converters = compiler.get_converters([expression for expression, _, _ in compiler.select])

    @sensitive_variables()
    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        """Execute it with a value for each `Parameter`, by their names."""
        connection = cursor.db
        parameters = [
            each.output_field.get_db_prep_value(values[each.name], connection) if isinstance(each, Parameter) else each
            for each in self._parameters
        ]
        cursor.execute(self._sql, parameters)

    @sensitive_variables()
    def by_name(self, row: tuple[Any, ...], connection: Any) -> dict[str, Any]:
        """A row of a query of `.values()`, by its names and as Django has the values."""
        values = list(row)
        for place, (converters, expression) in self._converters.items():
            for convert in converters:
                values[place] = convert(values[place], expression, connection)
        return dict(zip(self._names, values, strict=True))


@sensitive_variables()
def update_where(connection: Any, model: type[Model], lookups: Mapping[str, Any], columns: Mapping[str, Any]) -> int:
    """`model.objects.filter(**lookups).update(**columns)`, compiled once for the names that are given.

    `lookups`: equalities, none with None. `columns`: values, or expressions such as `DatabaseNow()`, `in_seconds(…)`.
    """
    values = {f"where {name}": value for name, value in lookups.items()}
    shape: list[tuple[str, Any]] = []
    for name, value in columns.items():
        if isinstance(value, InSeconds):
            shape.append((name, InSeconds))
            value = timedelta(seconds=value.seconds)
        else:
            shape.append((name, value if hasattr(value, "resolve_expression") else None))
        values[name] = value
    query = _compiled_update(connection.alias, model, tuple(lookups), tuple(shape))
    with connection.cursor() as cursor:
        query.execute(cursor, values)
        return int(cursor.rowcount)


@cache
def _compiled_update(
    using: str, model: type[Model], lookups: tuple[str, ...], shape: tuple[tuple[str, Any], ...]
) -> CompiledQuery:
    def field_of(name: str) -> Field[Any, Any]:
        return model._meta.pk if name == "pk" else model._meta.get_field(name)  # type: ignore[return-value]

    rows = model._base_manager.using(using)
    query: Any = rows.filter(**{name: Parameter(f"where {name}", field_of(name)) for name in lookups}).query.chain(
        UpdateQuery
    )
    columns: dict[str, Any] = {}
    for name, expression in shape:
        if expression is InSeconds:
            expression = DatabaseNow() + Parameter(name, DurationField())
        columns[name] = Parameter(name, field_of(name)) if expression is None else expression
    query.add_update_values(columns)
    return CompiledQuery(query, using)


@sensitive_variables()
def first_of(
    connection: Any, build: Callable[[], QuerySet[Any, Any]], values: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The first row, by its names, of the query of `.values()` that `build` makes with `Parameter`s in it; or None."""
    query = _compiled_select(connection.alias, build)
    with connection.cursor() as cursor:
        query.execute(cursor, values)
        row = cursor.fetchone()
    return None if row is None else query.by_name(row, connection)


@cache
def _compiled_select(using: str, build: Callable[[], QuerySet[Any, Any]]) -> CompiledQuery:
    query = build()[:1].using(using).query
    return CompiledQuery(query, using)
