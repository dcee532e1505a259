"""The test shop's receipts: one for a paid sale, and one for each of its refunds."""

from django_kpwa import receipts

from .models import Sale


@receipts.register(Sale)
class PaidReceipt(receipts.Receipt):
    event = "paid"
    template_name = "shop/paid.txt"

    def should_send(self, sale):
        return sale.status == Sale.Status.PAID

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.sold_at

    def get_candidates(self, since, until):
        return Sale.objects.filter(sold_at__gte=since, sold_at__lt=until)


@receipts.register(Sale)
class RefundReceipt(receipts.Receipt):
    def should_send(self, sale):
        return sale.status == Sale.Status.REFUNDED

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.sold_at

    def get_candidates(self, since, until):
        return Sale.objects.filter(sold_at__gte=since, sold_at__lt=until)

    def get_event_id(self, sale):
        return f"refund-{sale.refunds}"

    def render(self, sale, **context):
        return f"Pengembalian {context['event_id']}"
