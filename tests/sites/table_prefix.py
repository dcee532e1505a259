"""A site whose tables have a prefix, by the signal that packages for this use; one that has to be quoted."""

import os

from django.db.models.signals import class_prepared

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

PREFIX = "Toko-1_"


def add_prefix(sender, **_):
    if not sender._meta.db_table.startswith(PREFIX):
        sender._meta.db_table = PREFIX + sender._meta.db_table


class_prepared.connect(add_prefix)

# Beside the database of the tests that start this one.
_is_file = DATABASES["default"]["ENGINE"].endswith("sqlite3")
_name = f"/tmp/kpwa-prefix-{os.getpid()}.sqlite3" if _is_file else f"kpwa_prefix_{os.getpid()}"
DATABASES["default"]["TEST"] = {**DATABASES["default"].get("TEST", {}), "NAME": _name}
