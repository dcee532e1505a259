"""Statements that PostgreSQL parses and plans once per connection, which is more than half of a long one's cost.

They are PREPAREd in SQL under a name that is a hash of their text. That makes them safe behind a pooler such as
PgBouncer, which may use another server connection for each transaction: a name means the same statement on every
connection, and on one where it is not prepared yet, EXECUTE fails before anything is done.
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
from ..sql import code_of, with_tables

_PARAMETER = re.compile(r"%\((\w+)\)s")
# Errors of EXECUTE after which nothing was done: the statement is not prepared on this server connection, or a
# migration has changed one of its tables since.
_UNKNOWN, _CHANGED = "26000", "0A000"
_KNOWN_ALREADY = "42P05"

# Names of prepared statements by the driver's connection, not Django's: Django's wrapper outlives a reconnect.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


Row = dict[str, Any]


class _Written(NamedTuple):
    name: str
    prepare: str
    execute: str
    sql: str


class Statement:
    """A statement with parameters, written as `%(name)s` in its text; `types`: the PostgreSQL type of each, by name."""

    def __init__(self, sql: str, types: Mapping[str, str]) -> None:
        self._text, self._types = sql, types

    @cached_property
    def _written(self) -> _Written:
        """The texts to execute; built at the first execution, because a site may rename our tables at start-up."""
        text, types = with_tables(self._text, write_alias()), self._types
        names = list(dict.fromkeys(_PARAMETER.findall(text)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
        name = f"kpwa_{hashlib.sha256(numbered.encode()).hexdigest()[:16]}"
        return _Written(
            name,
            prepare=f"PREPARE {name} ({', '.join(types[each] for each in names)}) AS {numbered}",
            execute=f"EXECUTE {name} ({', '.join(f'%({each})s' for each in names)})",
            # With casts, for drivers that send the values apart from the text, so that the server cannot infer types.
            sql=_PARAMETER.sub(lambda found: f"{found[0]}::{types[found[1]]}", text),
        )

    @property
    def name(self) -> str:
        return self._written.name

    @sensitive_variables()
    def row(self, using: str, parameters: Mapping[str, Any]) -> Row | None:
        """Execute the statement and return its first row as a dict, or None. Superfluous `parameters` are ignored."""
        found = self.rows(using, parameters)
        return found[0] if found else None

    @sensitive_variables()
    def rows(self, using: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Execute the statement and return its rows as dicts."""
        connection, written = connections[using], self._written
        connection.ensure_connection()
        with connection.cursor() as cursor:
            # EXECUTE cannot be used with server-side binding; such a site can set psycopg's `prepare_threshold`. In a
            # transaction, the error for a statement that is not prepared here would abort the transaction.
            if connection.settings_dict["OPTIONS"].get("server_side_binding") or connection.in_atomic_block:
                cursor.execute(written.sql, parameters)
                return _by_name(cursor)
            known = _prepared.setdefault(connection.connection, set())
            if written.name not in known:
                try:
                    cursor.execute(written.prepare)
                except DatabaseError as error:
                    if code_of(error) != _KNOWN_ALREADY:
                        raise
                known.add(written.name)
            try:
                cursor.execute(written.execute, parameters)
            except DatabaseError as error:
                if code_of(error) not in (_UNKNOWN, _CHANGED):
                    raise
                # An unknown one is prepared again the next time. One whose table changed stays unusable on this
                # connection, so its plain text is executed until the next connection.
                if code_of(error) == _UNKNOWN:
                    known.discard(written.name)
                cursor.execute(written.sql, parameters)
            return _by_name(cursor)


def _by_name(cursor: Any) -> list[Row]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
