from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from .models import Sale


@transaction.atomic
def sell(request: HttpRequest) -> HttpResponse:
    sale = Sale.objects.create(
        number=request.POST["number"],
        customer_phone=request.POST.get("phone", ""),
        total=int(request.POST["total"]),
        paid_at=timezone.now(),
    )
    return HttpResponse(sale.number)
