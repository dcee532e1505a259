"""A site's addresses: the admin, ours, and at / a page of the shop with the counter's tags."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import include, path

from tests.shop.models import Sale


def counter(request):
    return render(request, "sites/counter.html", {"sales": Sale.objects.order_by("pk")})


# Without DEBUG, whose own pages would be in the way, and below a prefix, runserver serves no static files.
static_files = path("static/<path:path>", serve, {"insecure": True})
# Browsers ask for it on pages that name no icon.
icon = path("favicon.ico", lambda request: HttpResponse(status=204))
admin_site = admin.site
urlpatterns = [
    path("", counter, name="counter"),
    path("admin/", admin_site.urls),
    path("kpwa/", include("django_kpwa.urls")),
    static_files,
    icon,
]
