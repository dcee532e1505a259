"""How a message's source is identified: by its database, its model and its primary key.

Rows with the same key in two databases are two sources. The proxies of a model name the same rows, hence one source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType, ContentTypeManager
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.db.models import Q
from django.utils.text import capfirst

from .database import write_alias

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

MAX_DATABASE_LENGTH = 100
MAX_REFERENCE_LENGTH = 80
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


class ExactCharField(models.CharField):  # type: ignore[type-arg]
    """A text compared exactly, as identifiers need: MySQL and MariaDB usually ignore case, accents, trailing spaces."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = exact_collation(connection)
        return parameters


def exact_collation(connection: BaseDatabaseWrapper) -> str:
    """The collation of this MariaDB or MySQL that distinguishes every character."""
    wrapper: Any = connection
    return "utf8mb4_nopad_bin" if wrapper.mysql_is_mariadb else "utf8mb4_0900_bin"


def is_saved(obj: models.Model) -> bool:
    """True if `obj` was loaded from the database or saved to it.

    The primary key is not enough: a UUID is generated before the save, a composite key is filled part by part,
    and a key that was set by hand may belong to no row.
    """
    instance: Any = obj  # its types lack Django's own question
    return instance._is_pk_set() and not instance._state.adding


def database_of(obj: models.Model) -> str:
    """The alias of the database that the row of `obj` belongs to: for a row read from a replica, the primary's."""
    read_from, written_to = obj._state.db, router.db_for_write(type(obj), instance=obj)
    if read_from is None or read_from == written_to or _is_same(read_from, written_to):
        return written_to
    # The site has saved it with `using`, to another database than its routers choose.
    return read_from


def stored_name(alias: str) -> str:
    """A database's alias as it is stored with a message: empty for the default one."""
    return "" if alias == DEFAULT_DB_ALIAS else alias


def source_id_of(obj: models.Model) -> str:
    """The primary key as text, normalised by its field: the same for a loaded object and one just saved as `"007"`."""
    key, primary_key = obj.pk, obj._meta.pk
    if primary_key is not None and not isinstance(key, tuple):
        try:
            key = primary_key.to_python(key)
        except (ValidationError, ValueError, TypeError):
            pass
    return str(key)


def name_by_key(model_name: str, source_id: str) -> str:
    """Return the name of an object without a reference: `Sale 7`. A UUID is shortened."""
    key = f"{source_id[:8]}…" if _UUID.fullmatch(source_id) else source_id
    return f"{capfirst(model_name)} {key}"


def content_types() -> ContentTypeManager:
    """The content types as the outbox's own database numbers them; Django's manager would ask the site's routers."""
    return ContentType.objects.db_manager(write_alias())


def types_of(model: type[models.Model]) -> list[ContentType]:
    """The content types under which a row of `model` may be stored: its own, and those of proxies of the same table."""
    concrete = model._meta.concrete_model
    family = [each for each in apps.get_models() if each._meta.concrete_model is concrete] or [model]
    return list(content_types().get_for_models(*family, for_concrete_models=False).values())


def about(model: type[models.Model], alias: str, source_ids: Iterable[str]) -> Q:
    """The condition for messages about the rows with these ids of one model in the database `alias`."""
    return Q(
        source_content_type__in=types_of(model), source_database=stored_name(alias), source_id__in=list(source_ids)
    )


def _is_same(alias: str, other: str) -> bool:
    """True if two aliases mean the same database: a replica on another server has the same engine and name."""
    first, second = (connections[each].settings_dict for each in (alias, other))
    return (first["ENGINE"], first["NAME"]) == (second["ENGINE"], second["NAME"])
