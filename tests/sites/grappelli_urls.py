"""The same, with what django-grappelli's pages ask for."""

from django.urls import include, path

from .urls import admin_site
from .urls import urlpatterns as _urlpatterns

__all__ = ["admin_site", "urlpatterns"]

urlpatterns = [path("grappelli/", include("grappelli.urls")), *_urlpatterns]
