from django.conf import settings
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if settings.WITHOUT == "kpwa":
    import rest_framework.views  # noqa: F401 - any view of its own that a site has
if not settings.WITHOUT:
    from .bare import store

    urlpatterns += [path("kpwa/", include("django_kpwa.urls")), path("bare/<int:license_id>/", store)]
