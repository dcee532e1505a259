"""The till's pages. All validation is done here; the page's scripts only compute the total and refresh the list."""

from __future__ import annotations

import uuid
from itertools import groupby

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from . import till as counter
from .forms import PaymentForm
from .models import Product, Sale

RECENT_SALES = 12


@require_GET
@never_cache
def till(request: HttpRequest) -> HttpResponse:
    return _till_page(request, PaymentForm(initial={"uuid": uuid.uuid4(), "payment": Sale.Payment.CASH}))


@require_POST
def pay(request: HttpRequest) -> HttpResponse:
    form = PaymentForm(request.POST)
    if not form.is_valid():
        return _till_page(request, form, status=422)
    given = form.cleaned_data
    sale = counter.ring_up(
        given["items"],
        customer_phone=given["customer_phone"],
        customer_name=given["customer_name"],
        payment=given["payment"],
        sale_uuid=given["uuid"],
    )
    messages.success(request, f"Penjualan {sale.number} lunas.")
    return redirect("sales:till")


@require_POST
def refund(request: HttpRequest, pk: int) -> HttpResponse:
    sale = get_object_or_404(Sale, pk=pk)
    if counter.refund(sale):
        messages.success(request, f"Uang {sale.number} dikembalikan.")
    else:
        messages.error(request, f"{sale.number} sudah {sale.get_status_display()}.")
    return redirect("sales:till")


@require_POST
def void(request: HttpRequest, pk: int) -> HttpResponse:
    sale = get_object_or_404(Sale, pk=pk)
    if counter.void(sale):
        messages.success(request, f"Penjualan {sale.number} dibatalkan.")
    else:
        messages.error(request, f"{sale.number} sudah {sale.get_status_display()}.")
    return redirect("sales:till")


@require_GET
@never_cache
def recent(request: HttpRequest) -> HttpResponse:
    """Return only the banner and the chips, which the till's page requests again while it is open."""
    return render(request, "sales/recent.html", {"sales": Sale.objects.all()[:RECENT_SALES]})


@require_GET
@never_cache
def demo(request: HttpRequest) -> HttpResponse:
    return render(request, "sales/demo.html", {"sandbox_url": settings.SANDBOX_URL, **_shop()})


def _till_page(request: HttpRequest, form: PaymentForm, status: int = 200) -> HttpResponse:
    products = Product.objects.filter(is_available=True)
    order = {category: place for place, category in enumerate(Product.Category.values)}
    by_category = sorted(products, key=lambda product: order[product.category])
    context = {
        "form": form,
        "categories": [
            (Product.Category(category), list(group))
            for category, group in groupby(by_category, key=lambda product: product.category)
        ],
        "cart": _posted_quantities(form),
        "payments": Sale.Payment.choices,
        "sales": Sale.objects.prefetch_related("lines")[:RECENT_SALES],
        **_shop(),
    }
    return render(request, "sales/till.html", context, status=status)


def _shop() -> dict[str, str]:
    return {"shop_name": settings.SHOP_NAME, "shop_address": settings.SHOP_ADDRESS}


def _posted_quantities(form: PaymentForm) -> dict[int, int]:
    """Return the cart of an invalid form, to show it again."""
    if not form.is_bound:
        return {}
    try:
        return form.quantities()
    except ValidationError:
        return {}
