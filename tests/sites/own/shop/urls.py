from __future__ import annotations

from django.apps import apps
from django.urls import include, path

from .views import sell

urlpatterns = [path("sell/", sell)]
if apps.is_installed("django_kpwa"):
    urlpatterns += [path("kpwa/", include("django_kpwa.urls"))]
