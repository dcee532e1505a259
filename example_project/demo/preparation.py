"""Before the curtain: tables, a user for the admin, the catalogue, and the license that is linked to the phone.

    python -m example_project.demo.preparation [--phone-only]

Safe to repeat: what is there stays, and only the addresses are brought up to date.
"""

from __future__ import annotations

import sys
from datetime import date

import django

USERNAME, PASSWORD = "admin", "admin"  # of a site that only this machine can reach
LICENSE_NAME = "Toko Demo"
API_KEY = "sandbox-key"
PACE_SECONDS = (0.1, 0.3)
"""Nobody bans a simulated account. Shops keep to the default of 4 to 8 seconds."""


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
    """Point the license at the phone, and the phone's webhook at this site. The phone must be answering."""
    from django_kpwa import license_actions
    from django_kpwa.models import License

    license_ = License.objects.filter(name=LICENSE_NAME).first() or License(name=LICENSE_NAME)
    # Only where it must be: every new key counts the key's version up.
    if not license_.api_key_ciphertext:
        license_.set_api_key(API_KEY)
    license_.pace_min_seconds, license_.pace_max_seconds = PACE_SECONDS
    # An old number: it may write to as many new customers as there are.
    license_.in_use_since = license_.in_use_since or date(2020, 1, 1)
    license_.save()
    license_actions.check_status(license_)
    license_actions.set_webhook(license_)


if __name__ == "__main__":
    main(sys.argv[1:])
