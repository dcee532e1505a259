"""URLs of a site with two admin sites, one of them its own, that does not include this app's URLs."""

from django.contrib import admin
from django.urls import path

from django_kpwa.admin import register

backoffice = admin.AdminSite(name="backoffice")
register(backoffice)

urlpatterns = [path("admin/", admin.site.urls), path("shop/office/", backoffice.urls)]
