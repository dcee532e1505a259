"""URLs: the contract under `/backend/`, the page at `/`, and the API for page and tests under `/sandbox/api/`."""

from __future__ import annotations

from pathlib import Path

from django.urls import include, path
from django.views.static import serve

from . import contract, page
from .phone import resolve
from .transport import BASE_PATH

urlpatterns = [
    path("", page.phone_page),
    path("sandbox/qr.png", page.qr_image),
    path("sandbox/static/<path:path>", serve, {"document_root": Path(__file__).parent / "static"}),
    path("sandbox/api/state", page.state),
    path("sandbox/api/ledger", page.ledger),
    path("sandbox/api/log", page.log),
    path("sandbox/api/faults", page.faults),
    path("sandbox/api/<str:action>", page.act),
    path(f"{BASE_PATH.strip('/')}/", include(contract.urls(resolve))),
]

handler400 = "django_kpwa.sandbox.page.bad_request"
handler404 = "django_kpwa.sandbox.page.not_found"
handler500 = "django_kpwa.sandbox.page.server_error"
