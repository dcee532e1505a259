"""The till's pages. Everything is decided here; the page's script only counts and asks again."""

from __future__ import annotations

import uuid
from itertools import groupby

from django.conf import settings
from django.contrib import messages
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from django_kpwa.models import OutboundMessage, Status

from . import till as counter
from .forms import PaymentForm
from .models import Product, Sale

RECENT_SALES = 12
# What a shop owner reads, and the colour of it.
RECEIPT_STATES = {
    Status.QUEUED: ("menunggu", "waiting"),
    Status.SENDING: ("mengirim…", "waiting"),
    Status.SENT: ("terkirim", "sent"),
    Status.DELIVERED: ("sampai", "delivered"),
    Status.READ: ("dibaca", "read"),
    Status.FAILED: ("gagal", "failed"),
    Status.UNKNOWN: ("belum pasti", "doubtful"),
    Status.CANCELLED: ("dibatalkan", "none"),
    Status.EXPIRED: ("kedaluwarsa", "failed"),
}
NO_RECEIPT = ("tanpa struk", "none")


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
def statuses(request: HttpRequest) -> JsonResponse | HttpResponseBadRequest:
    """What became of the receipts of the sales `?sale=1&sale=2`: `{"1": {"text": …, "kind": …}}`."""
    asked = request.GET.getlist("sale")
    if len(asked) > RECENT_SALES or not all(pk.isdecimal() and len(pk) < 19 for pk in asked):
        return HttpResponseBadRequest("sale: a few whole numbers")
    sales = Sale.objects.filter(pk__in=asked)
    return JsonResponse({str(sale.pk): state for sale, state in _with_states(sales)})


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
        "sales": _with_states(Sale.objects.prefetch_related("lines")[:RECENT_SALES]),
        **_shop(),
    }
    return render(request, "sales/till.html", context, status=status)


def _shop() -> dict[str, str]:
    return {"shop_name": settings.SHOP_NAME, "shop_address": settings.SHOP_ADDRESS}


def _posted_quantities(form: PaymentForm) -> dict[int, int]:
    """The cart that was refused, to show it again."""
    if not form.is_bound:
        return {}
    try:
        return form.quantities()
    except ValidationError:
        return {}


def _with_states(sales) -> list[tuple[Sale, dict[str, str]]]:
    """Each sale with the state of its newest receipt, in one query for all."""
    sales = list(sales)
    content_type = ContentType.objects.get_for_model(Sale)
    newest = dict(
        OutboundMessage.objects.filter(source_content_type=content_type, source_id__in=[str(sale.pk) for sale in sales])
        .order_by("pk")
        .values_list("source_id", "status")
    )
    states = []
    for sale in sales:
        text, kind = RECEIPT_STATES.get(newest.get(str(sale.pk)), NO_RECEIPT)
        states.append((sale, {"text": text, "kind": kind}))
    return states
