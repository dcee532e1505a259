"""The URLs of a site: the admin, the app, and at / a page of the shop with the counter's tags."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import include, path

from tests.shop.models import Sale


def counter(request):
    return render(request, "sites/counter.html", {"sales": Sale.objects.order_by("pk")})


# runserver serves no static files without DEBUG or below a prefix. DEBUG is off because of its own error pages.
static_files = path("static/<path:path>", serve, {"insecure": True})
# Browsers request it for pages without an icon.
icon = path("favicon.ico", lambda request: HttpResponse(status=204))
admin_site = admin.site
urlpatterns = [
    path("", counter, name="counter"),
    path("admin/", admin_site.urls),
    path("kpwa/", include("django_kpwa.urls")),
    static_files,
    icon,
]
