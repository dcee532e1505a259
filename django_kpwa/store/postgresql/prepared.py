"""Statements that PostgreSQL parses and plans once per connection.

Parsing and planning are more than half of a long statement's cost. The statements are PREPAREd in SQL, under a name
that is a hash of their text. This makes them safe behind a pooler such as PgBouncer, which may use another server
connection for each transaction: a name means the same statement on every connection. Where the statement is not
prepared yet, EXECUTE fails before anything is done.
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
# Errors of EXECUTE, after which nothing was done. The statement is not prepared on this server connection, or a
# migration has changed one of its tables since it was prepared.
_UNKNOWN, _CHANGED = "26000", "0A000"
_KNOWN_ALREADY = "42P05"

# Names of prepared statements, by the database driver's connection. Django's wrapper would be the wrong key, because it
# outlives a reconnect.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


Row = dict[str, Any]


class _Written(NamedTuple):
    """The texts of a statement. `sql` is the statement itself, to be executed where it cannot be prepared."""

    name: str
    prepare: str
    execute: str
    sql: str


class Statement:
    """A statement with named parameters, written as `%(name)s` in its text.

    `types`: the PostgreSQL type of each parameter, by its name.
    """

    def __init__(self, sql: str, types: Mapping[str, str]) -> None:
        self._text, self._types = sql, types
        # The names of the result's columns, once they are known: psycopg creates an object for each column whenever it
        # is asked for them.
        self._names: tuple[str, ...] | None = None

    @cached_property
    def _written(self) -> _Written:
        """The texts to execute. Built at the first execution, because a site may rename our tables at start-up."""
        text, types = with_tables(self._text, write_alias()), self._types
        names = list(dict.fromkeys(_PARAMETER.findall(text)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
        name = f"kpwa_{hashlib.sha256(numbered.encode()).hexdigest()[:16]}"
        return _Written(
            name,
            prepare=f"PREPARE {name} ({', '.join(types[each] for each in names)}) AS {numbered}",
            execute=f"EXECUTE {name} ({', '.join(f'%({each})s' for each in names)})",
            # With casts, because a driver may send the values separately, and the server then cannot infer their types.
            sql=_PARAMETER.sub(lambda found: f"{found[0]}::{types[found[1]]}", text),
        )

    @property
    def name(self) -> str:
        """The name under which the statement is prepared."""
        return self._written.name

    @sensitive_variables()
    def row(self, using: str, parameters: Mapping[str, Any]) -> Row | None:
        """Execute the statement and return its first row, or None. For arguments and exceptions see `rows()`."""
        found = self.rows(using, parameters)
        return found[0] if found else None

    @sensitive_variables()
    def rows(self, using: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Execute the statement, prepared if possible, and return its rows as dicts.

        Args:
            using: The alias of the database.
            parameters: The value of each parameter by its name. Superfluous ones are ignored.

        Raises:
            DatabaseError: The statement itself failed.
        """
        connection, written = connections[using], self._written
        connection.ensure_connection()
        with connection.cursor() as cursor:
            # EXECUTE does not work with server-side binding; such a site can set psycopg's `prepare_threshold`. It is
            # not used in a transaction either: if the statement is not prepared here, the error aborts the transaction.
            if connection.settings_dict["OPTIONS"].get("server_side_binding") or connection.in_atomic_block:
                cursor.execute(written.sql, parameters)
                return self._by_name(cursor)
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
                # An unknown statement is prepared again the next time. If a table has changed, the prepared statement
                # stays unusable on this connection, and the plain text is executed until the connection is replaced.
                if code_of(error) == _UNKNOWN:
                    known.discard(written.name)
                cursor.execute(written.sql, parameters)
            return self._by_name(cursor)

    @sensitive_variables()
    def _by_name(self, cursor: Any) -> list[Row]:
        if self._names is None:
            self._names = tuple(column[0] for column in cursor.description)
        return [dict(zip(self._names, row, strict=True)) for row in cursor.fetchall()]
