"""Products and sales for the shop's owner. Sales are read-only here; the till creates and changes them."""

from django.contrib import admin

from django_kpwa.admin import KpwaMessagesInline
from django_kpwa.templatetags.kpwa import rupiah

from .models import Product, Sale, SaleLine


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "category", "price_in_rupiah", "is_available"]
    list_filter = ["category", "is_available"]
    search_fields = ["name"]

    @admin.display(description="harga", ordering="price")
    def price_in_rupiah(self, product):
        return rupiah(product.price)


class SaleLineInline(admin.TabularInline):
    model = SaleLine
    extra = 0
    can_delete = False

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False


@admin.register(Sale)
class SaleAdmin(admin.ModelAdmin):
    list_display = ["number", "status", "total_in_rupiah", "payment", "customer_name", "paid_at"]
    list_filter = ["status", "payment", "paid_at"]
    search_fields = ["customer_name", "customer_phone"]
    inlines = [SaleLineInline, KpwaMessagesInline]

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    @admin.display(description="nomor", ordering="pk")
    def number(self, sale):
        return sale.number

    @admin.display(description="total", ordering="total")
    def total_in_rupiah(self, sale):
        return rupiah(sale.total)
