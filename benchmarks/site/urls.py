from django.contrib import admin
from django.urls import include, path

from .bare import store

urlpatterns = [
    path("admin/", admin.site.urls),
    path("kpwa/", include("django_kpwa.urls")),
    path("bare/<int:license_id>/", store),
]
