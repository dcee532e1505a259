"""Contains errors inside a caller's transaction: afterwards the transaction is provably usable, or an error is raised.

An error that is caught inside a transaction may have ended that transaction: the connection was lost, MariaDB chose it
as a deadlock's victim, SQLite rolled it back. If nothing is raised, Django's `atomic()` then rolls back silently, and a
till confirms a sale that was not stored.

    with contained("default") as caught:    # a savepoint, where a transaction is open
        ...
    if caught.error is not None: ...        # the transaction is still usable

The savepoint is the proof: it can only be released or rolled back within the transaction in which it was set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from .exceptions import RolledBackError, TransactionLostError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass
class Caught:
    """The error that was contained; None if nothing was raised."""

    error: Exception | None = None


@contextmanager
def contained(*aliases: str) -> Iterator[Caught]:
    """Catch an `Exception` from the block, inside a savepoint of each transaction that is open on these databases.

    Yields a `Caught`, whose `error` is set after the block. Raises `TransactionLostError` if one of the transactions
    has ended, whether the block raised anything or not.
    """
    caught = Caught()
    used = [connections[alias] for alias in sorted(set(aliases))]
    # A transaction that is marked for rollback already is not lost by this block, so it is not checked.
    opened = [connection for connection in used if is_open(connection) and not connection.needs_rollback]
    entered: list[BaseDatabaseWrapper] = []
    try:
        with ExitStack() as savepoints:
            for connection in used:
                if is_open(connection):
                    savepoints.enter_context(transaction.atomic(using=connection.alias))
                    entered.append(connection)
            yield caught
    except Exception as error:
        caught.error = error
    lost = [connection for connection in opened if connection not in entered or _is_lost(connection)]
    for connection in lost:
        end_loudly(connection, caught.error)
    if lost:
        raise TransactionLostError(_LOST) from caught.error


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """True if a caller has opened a transaction, by `atomic()` or by switching autocommit off."""
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def replace_if_broken(alias: str) -> None:
    """Close a connection that broke outside a transaction, so that the next statement opens a new one."""
    connection = connections[alias]
    if connection.connection is None or is_open(connection) or not connection.errors_occurred:
        return
    if not connection.is_usable():
        connection.close()


def outside_transactions(view: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Exempt `view` from ATOMIC_REQUESTS, on all databases."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def loud(using: Callable[[], str]) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a function that runs without a savepoint: if a caller catches its database error inside a transaction,
    the end of the transaction raises `RolledBackError` instead of rolling back silently.

    The error is re-raised. The `atomic()` block that is open on the database `using()` can no longer be committed, and
    raises `RolledBackError` at its end if no exception leaves it. Write this decorator below `@sensitive_variables()`,
    so that this frame's variables are hidden too.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            try:
                return function(*args, **kwargs)
            except Error as error:
                connection = connections[using()]
                if connection.in_atomic_block:
                    end_loudly(connection, error)
                raise

        return wrapped

    return decorate


def end_loudly(connection: BaseDatabaseWrapper, error: BaseException | None) -> None:
    """Mark the open block for rollback, and make its end raise `RolledBackError` if no exception leaves it."""
    connection.needs_rollback = True
    if connection.atomic_blocks and not isinstance(vars(connection).get("rollback"), _LoudRollback):
        _LoudEnd(connection, error)


_LOST = (
    "The database ended the transaction while a receipt or message was being stored (the connection was lost, "
    "or the transaction was a deadlock victim). Nothing of the transaction is stored: save everything in it "
    "again."
)
_ROLLED_BACK = (
    "A database error was caught inside this transaction, so the database can no longer commit it. Nothing "
    "that was saved in it is stored. Let such an error leave the atomic() block, or save again."
)


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    return connection.closed_in_transaction or connection.needs_rollback or connection.connection is None


class _LoudEnd:
    """Intercepts the rollback of the blocks that are open now.

    `atomic()` has no hook for a rollback, so the connection's methods are shadowed until the first block has ended. A
    caller of `set_rollback()` handles the rollback itself, and gets no error.
    """

    def __init__(self, connection: BaseDatabaseWrapper, error: BaseException | None) -> None:
        self.connection, self.error = connection, error
        self.blocks = list(connection.atomic_blocks)
        shadows: Any = connection
        shadows.rollback = _LoudRollback(self)
        shadows.savepoint_rollback = self._savepoint_rollback
        shadows.set_rollback = self._set_rollback

    def remove(self) -> None:
        for name in ("rollback", "savepoint_rollback", "set_rollback"):
            vars(self.connection).pop(name, None)

    def is_silent(self, caller: FrameType) -> bool:
        """True if `caller` is the end of one of the blocks, and no exception leaves it."""
        return (
            caller.f_code is Atomic.__exit__.__code__
            and caller.f_locals["self"] in self.blocks
            and caller.f_locals["exc_type"] is None
        )

    def raise_(self) -> None:
        raise RolledBackError(_ROLLED_BACK) from self.error

    def _savepoint_rollback(self, sid: str) -> None:
        is_silent = self.is_silent(sys._getframe(1))
        # If this fails, the block around this one cannot be committed either, and raises at its own end.
        type(self.connection).savepoint_rollback(self.connection, sid)
        self.remove()
        if is_silent:
            self.raise_()

    def _set_rollback(self, rollback: bool) -> None:
        self.remove()
        self.connection.set_rollback(rollback)


class _LoudRollback:
    """Replaces `connection.rollback()`. `end_loudly()` recognises by its type that the connection has one already."""

    def __init__(self, end: _LoudEnd) -> None:
        self._end = end

    def __call__(self) -> None:
        is_silent, connection = self._end.is_silent(sys._getframe(1)), self._end.connection
        self._end.remove()
        if not is_silent:
            connection.rollback()
            return
        try:
            connection.rollback()
        except Error:
            connection.close()
        self._end.raise_()
