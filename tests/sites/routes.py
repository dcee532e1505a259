"""Finds every URL of the app on a site, so that new URLs of an admin class or of our URLconf are included.

for route in routes_of(admin.site):
    route.name       # "license/<path:object_id>/change/", "kpwa:webhooks/<str:token>/"
    route.url({"object_id": 7})
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from django.contrib.admin import AdminSite
from django.urls import URLPattern, URLResolver, reverse

from django_kpwa import urls

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """One URL pattern. `model` is the model of its admin, or empty if the URL is outside the admin."""

    name: str
    model: str
    base: str
    """The site's prefix of the URL."""

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.name)

    def url(self, values: Mapping[str, object]) -> str:
        """Return the URL with `values` as its parameters. Fails if a parameter has no value."""
        unknown = set(self.parameters) - set(values)
        assert not unknown, f"{self.name}: tests/sites/shop.py has no value for {', '.join(unknown)}."
        pattern = self.name.removeprefix("kpwa:")
        return self.base + _PARAMETER.sub(lambda found: quote(str(values[found[1]]), safe=""), pattern)


def routes_of(site: AdminSite) -> list[Route]:
    """Return the routes of the app's models on `site`, and those of `django_kpwa.urls`."""
    admin_base = f"{reverse('admin:index', current_app=site.name)}django_kpwa/"
    in_admin = [
        Route(f"{model._meta.model_name}/{pattern}", model._meta.model_name, admin_base)
        for model, model_admin in site._registry.items()
        if model._meta.app_label == "django_kpwa"
        for pattern in _patterns(model_admin.get_urls())
    ]
    own_base = reverse("django_kpwa:webhook", args=["-"]).removesuffix("webhooks/-/")
    return [*in_admin, *(Route(f"kpwa:{pattern}", "", own_base) for pattern in _patterns(urls.urlpatterns))]


def _patterns(entries: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, f"{prefix}{entry.pattern}")
        else:
            yield f"{prefix}{entry.pattern}"
