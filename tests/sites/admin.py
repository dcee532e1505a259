"""The admin pages of orders, as targets for links."""

from django.contrib import admin

from .models import Order

admin.site.register(Order)
