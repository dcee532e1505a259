"""The receipt of a web shop's order."""

from django_kpwa import receipts

from .models import Order


@receipts.register(Order)
class OrderReceipt(receipts.Receipt):
    def should_send(self, order):
        return True

    def get_phone_number(self, order):
        return order.customer_phone

    def get_occurred_at(self, order):
        return order.ordered_at

    def get_reference(self, order):
        return order.number

    def get_candidates(self, since, until):
        return Order.objects.filter(ordered_at__gte=since, ordered_at__lt=until)

    def render(self, order, **context):
        return f"*Kopi Senja*\nPesanan {order.number} sudah kami terima. Terima kasih!"
