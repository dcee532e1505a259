"""The URLs of a site under other paths, with the shop's own `AdminSite`, where our models are registered by hand."""

from django.contrib.admin import AdminSite
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.urls import include, path

from django_kpwa.admin import register

from .urls import counter, static_files

admin_site = AdminSite(name="backoffice")
admin_site.register(User, UserAdmin)
register(admin_site)
urlpatterns = [
    path("", counter, name="counter"),
    path("kantor/", admin_site.urls),
    path("struk/wa/", include("django_kpwa.urls")),
    static_files,
]
