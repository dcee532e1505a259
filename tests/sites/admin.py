"""The orders' own pages, for the links that lead to them."""

from django.contrib import admin

from .models import Order

admin.site.register(Order)
