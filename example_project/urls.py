"""The till at /, the demo page, the admin, and what the gateway posts to."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.sales.urls")),
    path("admin/", admin.site.urls),
    path("kpwa/", include("django_kpwa.urls")),
]
