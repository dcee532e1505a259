"""The usual URLs of a site, with those that django-grappelli's pages need."""

from django.urls import include, path

from .urls import admin_site
from .urls import urlpatterns as _urlpatterns

__all__ = ["admin_site", "urlpatterns"]

urlpatterns = [path("grappelli/", include("grappelli.urls")), *_urlpatterns]
