"""Statements that PostgreSQL parses and plans once a connection: of a long one, that is more than half of its cost.

They are PREPAREd in SQL under a name that is made of their text. So they are safe where a pooler such as PgBouncer
hands out another server connection for every transaction: a name means the same statement everywhere, and where it is
not known yet, the server says so before anything is done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections
from django.views.decorators.debug import sensitive_variables

from ...models.database import write_alias
from ..sql import with_tables

_PARAMETER = re.compile(r"%\((\w+)\)s")
# What EXECUTE answers where it has done nothing: the statement is unknown here, or a migration changed a table since.
_UNKNOWN, _CHANGED = "26000", "0A000"
_KNOWN_ALREADY = "42P05"

# By the driver's connection: Django's opens new ones.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


Row = dict[str, Any]


class _Written(NamedTuple):
    name: str
    prepare: str
    execute: str
    sql: str


class Statement:
    """One statement of several parameters, `%(name)s` in its text; `types` are theirs, as PostgreSQL calls them."""

    def __init__(self, sql: str, types: Mapping[str, str]) -> None:
        self._text, self._types = sql, types

    @cached_property
    def _written(self) -> _Written:
        """As it is executed: written when it is first, for until then a site may call our tables otherwise."""
        text, types = with_tables(self._text, write_alias()), self._types
        names = list(dict.fromkeys(_PARAMETER.findall(text)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
        name = f"kpwa_{hashlib.sha256(numbered.encode()).hexdigest()[:16]}"
        return _Written(
            name,
            prepare=f"PREPARE {name} ({', '.join(types[each] for each in names)}) AS {numbered}",
            execute=f"EXECUTE {name} ({', '.join(f'%({each})s' for each in names)})",
            # With the types, for drivers that do not write the values into the text.
            sql=_PARAMETER.sub(lambda found: f"{found[0]}::{types[found[1]]}", text),
        )

    @property
    def name(self) -> str:
        return self._written.name

    @sensitive_variables()
    def row(self, using: str, parameters: Mapping[str, Any]) -> Row | None:
        """Execute it; returns its first row, by the columns' names. Further `parameters` are left aside."""
        found = self.rows(using, parameters)
        return found[0] if found else None

    @sensitive_variables()
    def rows(self, using: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Execute it; returns its rows."""
        connection, written = connections[using], self._written
        connection.ensure_connection()
        with connection.cursor() as cursor:
            # EXECUTE takes no values that the driver sends apart: such a site prepares by `prepare_threshold`. And in a
            # transaction the server's "unknown here" would be its end.
            if connection.settings_dict["OPTIONS"].get("server_side_binding") or connection.in_atomic_block:
                cursor.execute(written.sql, parameters)
                return _by_name(cursor)
            known = _prepared.setdefault(connection.connection, set())
            if written.name not in known:
                try:
                    cursor.execute(written.prepare)
                except DatabaseError as error:
                    if _code(error) != _KNOWN_ALREADY:
                        raise
                known.add(written.name)
            try:
                cursor.execute(written.execute, parameters)
            except DatabaseError as error:
                if _code(error) not in (_UNKNOWN, _CHANGED):
                    raise
                # Prepared anew the next time, where it is only unknown; a changed one stays as it is until reconnected.
                if _code(error) == _UNKNOWN:
                    known.discard(written.name)
                cursor.execute(written.sql, parameters)
            return _by_name(cursor)


def _by_name(cursor: Any) -> list[Row]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _code(error: DatabaseError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)
