"""What a message is about: whether an object is saved, so that something may point to it."""

from __future__ import annotations

from typing import Any

from django.db import models


def is_saved(obj: models.Model) -> bool:
    """Whether `obj` was loaded or saved. Its key alone does not tell: a UUID is drawn before, a composite one is filled
    part by part, and one that is written down by hand may be that of a row which is not there.
    """
    instance: Any = obj  # its types lack Django's own question
    return instance._is_pk_set() and not instance._state.adding
