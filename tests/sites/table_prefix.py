"""A site whose tables have a prefix that must be quoted. A signal sets it, as packages for table prefixes do."""

import os

from django.db.models.signals import class_prepared

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

PREFIX = "Toko-1_"


def add_prefix(sender, **_):
    if not sender._meta.db_table.startswith(PREFIX):
        sender._meta.db_table = PREFIX + sender._meta.db_table


class_prepared.connect(add_prefix)

# A separate database from that of the tests that start this site.
_is_file = DATABASES["default"]["ENGINE"].endswith("sqlite3")
_name = f"/tmp/kpwa-prefix-{os.getpid()}.sqlite3" if _is_file else f"kpwa_prefix_{os.getpid()}"
DATABASES["default"]["TEST"] = {**DATABASES["default"].get("TEST", {}), "NAME": _name}
