"""A site that has the admin twice, one of them its own, and has not included our addresses."""

from django.contrib import admin
from django.urls import path

from django_kpwa.admin import register

backoffice = admin.AdminSite(name="backoffice")
register(backoffice)

urlpatterns = [path("admin/", admin.site.urls), path("shop/office/", backoffice.urls)]
