"""Validates what the till posts, because the page's JavaScript cannot be trusted."""

from __future__ import annotations

from django import forms

from django_kpwa import phone
from django_kpwa.exceptions import InvalidPhoneNumberError

from .models import Product, Sale
from .till import Item

MAX_QUANTITY = 99


class PaymentForm(forms.Form):
    """A cart: a field `quantity-<product id>` for each product, and the customer who gets the receipt."""

    uuid = forms.UUIDField(widget=forms.HiddenInput)
    payment = forms.ChoiceField(choices=Sale.Payment.choices, initial=Sale.Payment.CASH)
    customer_name = forms.CharField(max_length=60, required=False)
    customer_phone = forms.CharField(max_length=40, required=False)

    def clean_customer_phone(self) -> str:
        typed = self.cleaned_data["customer_phone"].strip()
        if typed:
            try:
                phone.parse(typed)
            except InvalidPhoneNumberError:
                raise forms.ValidationError("Nomor WhatsApp ini tidak valid. Contoh: 0812 3456 7890.") from None
        return typed

    def clean(self) -> dict:
        cleaned = super().clean()
        cleaned["items"] = self._items()
        return cleaned

    def quantities(self) -> dict[int, int]:
        """Return the quantities by product id. Raises `ValidationError` for anything but small whole numbers."""
        asked: dict[int, int] = {}
        for name, value in self.data.items():
            prefix, _, product_id = name.partition("-")
            if prefix != "quantity" or value in ("", "0"):
                continue
            if not (product_id.isdecimal() and value.isdecimal() and len(product_id) < 10 and len(value) < 4):
                raise forms.ValidationError("Jumlah produk tidak valid.")
            if int(value) > MAX_QUANTITY:
                raise forms.ValidationError(f"Maksimal {MAX_QUANTITY} untuk satu produk.")
            asked[int(product_id)] = int(value)
        return asked

    def _items(self) -> list[Item]:
        asked = self.quantities()
        if not asked:
            raise forms.ValidationError("Keranjang masih kosong.")
        products = list(Product.objects.filter(pk__in=asked, is_available=True))
        if len(products) != len(asked):
            raise forms.ValidationError("Salah satu produk sudah tidak tersedia.")
        return [Item(product.name, product.price, asked[product.pk]) for product in products]
