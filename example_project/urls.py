"""The till at /, the demo page, the admin, and django-kpwa's webhook."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("example_project.sales.urls")),
    path("admin/", admin.site.urls),
    path("kpwa/", include("django_kpwa.urls")),
    # Browsers request it for pages without an icon, such as the admin's.
    path("favicon.ico", RedirectView.as_view(url=static("sales/icon.svg"))),
]
