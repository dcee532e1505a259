"""What a message is about, and how it is told from everything else: its database, its model and its primary key.

Two rows of one key in two databases are two things; the proxies of one table are names of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.db.models import Q

from .database import write_alias

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

MAX_DATABASE_LENGTH = 100


class ExactCharField(models.CharField):  # type: ignore[type-arg]
    """A text that tells things apart. MySQL and MariaDB usually mind neither case nor accents nor trailing blanks."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = exact_collation(connection)
        return parameters


def exact_collation(connection: BaseDatabaseWrapper) -> str:
    """The collation of MariaDB, or of MySQL, that compares every character."""
    wrapper: Any = connection
    return "utf8mb4_nopad_bin" if wrapper.mysql_is_mariadb else "utf8mb4_0900_bin"


def is_saved(obj: models.Model) -> bool:
    """Whether `obj` was loaded or saved. Its key alone does not tell: a UUID is drawn before, a composite one is filled
    part by part, and one that is written down by hand may be that of a row which is not there.
    """
    instance: Any = obj  # its types lack Django's own question
    return instance._is_pk_set() and not instance._state.adding


def database_of(obj: models.Model) -> str:
    """The alias of the database that the row of `obj` is in. What was read from a replica is in the original."""
    read_from, written_to = obj._state.db, router.db_for_write(type(obj), instance=obj)
    if read_from is None or read_from == written_to or _is_same(read_from, written_to):
        return written_to
    # Saved there by name, past a router that names another.
    return read_from


def stored_name(alias: str) -> str:
    """A database's alias as it is stored with a message: empty for the default one."""
    return "" if alias == DEFAULT_DB_ALIAS else alias


def source_id_of(obj: models.Model) -> str:
    """Its primary key as a text: the same one for an object that was loaded and for one just saved under `"007"`."""
    key, primary_key = obj.pk, obj._meta.pk
    if primary_key is not None and not isinstance(key, tuple):
        try:
            key = primary_key.to_python(key)
        except (ValidationError, ValueError, TypeError):
            pass
    return str(key)


def types_of(model: type[models.Model]) -> list[ContentType]:
    """The content types that a row of `model` may be named by: its own, and those of the proxies of the same table."""
    concrete = model._meta.concrete_model
    family = [each for each in apps.get_models() if each._meta.concrete_model is concrete] or [model]
    content_types = ContentType.objects.db_manager(write_alias())
    return list(content_types.get_for_models(*family, for_concrete_models=False).values())


def about(model: type[models.Model], alias: str, source_ids: Iterable[str]) -> Q:
    """What finds the messages about rows of one model in one database."""
    return Q(
        source_content_type__in=types_of(model), source_database=stored_name(alias), source_id__in=list(source_ids)
    )


def _is_same(alias: str, other: str) -> bool:
    """Whether two aliases lead to one database: the replica of another server has its name."""
    first, second = (connections[each].settings_dict for each in (alias, other))
    return (first["ENGINE"], first["NAME"]) == (second["ENGINE"], second["NAME"])
