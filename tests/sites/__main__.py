"""`python -m tests.sites` fills the database of the site that `DJANGO_SETTINGS_MODULE` names, and prints its pages.

The output is JSON. Each page has a `name`, usually that of its route, and a `url`. A page that shows one object is
listed once for each state of the object.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

import django

USERNAME, PASSWORD = "admin", "admin"


def main() -> None:
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.urls import reverse

    from .models import add_orders
    from .routes import routes_of
    from .shop import Shop

    call_command("migrate", verbosity=0, interactive=False, run_syncdb=True)
    get_user_model().objects.create_superuser(USERNAME, password=PASSWORD)
    shop = Shop().fill()
    shop.objects["outboundmessage"] += add_orders()
    site = import_module(settings.ROOT_URLCONF).admin_site
    index = reverse("admin:index", current_app=site.name)
    pages = [("index", index), ("app", f"{index}django_kpwa/"), ("counter", reverse("counter"))]
    for route in routes_of(site):
        for obj in shop.objects[route.model] if route.name.endswith("/<path:object_id>/change/") else [None]:
            pages.append((route.name, route.url(shop.values(route.model, obj))))
    json.dump([{"name": name, "url": url} for name, url in pages], sys.stdout)


main()
