"""The shop's own admin site at another URL, with its sales and their messages. It is used as a URLconf."""

from django.contrib import admin
from django.urls import include, path

from django_kpwa.admin import KpwaMessagesInline, register

from .models import CounterSale, Line, Sale, Ticket

site = admin.AdminSite(name="backoffice")
register(site)


class LineInline(admin.TabularInline):
    model = Line
    extra = 0


@admin.register(Sale, CounterSale, site=site)
class SaleAdmin(admin.ModelAdmin):
    inlines = [LineInline, KpwaMessagesInline]
    save_as = True


@admin.register(Ticket, site=site)
class TicketAdmin(admin.ModelAdmin):
    inlines = [KpwaMessagesInline]

    def get_queryset(self, request):
        # This site shows each user only their own rows.
        tickets = super().get_queryset(request)
        return tickets if request.user.is_superuser else tickets.filter(holder=request.user.username)


urlpatterns = [
    path("back/office/", site.urls),
    path("admin/", admin.site.urls),
    path("kpwa/", include("django_kpwa.urls")),
]
