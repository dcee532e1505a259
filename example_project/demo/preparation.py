"""Prepares the demo: the tables, a user for the admin, the catalogue, and the license that is linked to the phone.

    python -m example_project.demo.preparation [--phone-only]

It can be repeated: what exists is kept, and only the addresses are updated.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import date
from pathlib import Path

import django

USERNAME, PASSWORD = "admin", "admin"  # only for this machine: the demo's site listens on loopback
LICENSE_NAME = "Toko Demo"
PACE_SECONDS = (0.1, 0.3)
"""Short, because a simulated account is never banned. Real shops keep the default of 4 to 8 seconds."""


def api_key_of(home: Path) -> str:
    """Return the API key of the simulated phone of the demo in the folder `home`.

    Each demo has a key of its own: a site that still sends to a phone which was at this port before is refused.
    """
    return f"demo-{hashlib.sha256(bytes(home)).hexdigest()[:16]}"


def main(arguments: list[str]) -> None:
    django.setup()
    if "--phone-only" not in arguments:
        fill_database()
    link_phone()


def fill_database() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from example_project.sales import catalogue
    from example_project.sales.models import Product

    call_command("migrate", verbosity=0, interactive=False)
    users = get_user_model().objects
    if not users.filter(username=USERNAME).exists():
        users.create_superuser(USERNAME, password=PASSWORD)
    catalogue.seed(Product)


def link_phone() -> None:
    """Point the license at the phone, and the phone's webhook at this site. The phone must be running."""
    from django_kpwa import license_actions
    from django_kpwa.models import License

    license_ = License.objects.filter(name=LICENSE_NAME).first() or License(name=LICENSE_NAME)
    key = api_key_of(Path(os.environ["SHOP_HOME"]))
    # Only if it has another, because every new key increases the key's version.
    if not license_.api_key_ciphertext or license_.get_api_key().reveal() != key:
        license_.set_api_key(key)
    license_.pace_min_seconds, license_.pace_max_seconds = PACE_SECONDS
    # An old number, whose messages to new customers are not limited.
    license_.in_use_since = license_.in_use_since or date(2020, 1, 1)
    license_.save()
    license_actions.check_status(license_)
    license_actions.set_webhook(license_)


if __name__ == "__main__":
    main(sys.argv[1:])
