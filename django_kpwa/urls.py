"""The URLs that a site includes under any prefix: `path("kpwa/", include("django_kpwa.urls"))`."""

from __future__ import annotations

from django.urls import path

from . import monitoring
from .shop_counter import views as shop_counter
from .webhooks.views import webhook

app_name = "django_kpwa"

urlpatterns = [
    path("webhooks/<str:token>/", webhook, name="webhook"),
    # Also without the slash: otherwise Django would log the path, with its secret, as not found, and a POST is not
    # redirected to the path with the slash.
    path("webhooks/<str:token>", webhook),
    path("health/<str:secret>/", monitoring.health, name="health"),
    path("health/<str:secret>", monitoring.health),
    path("metrics/<str:secret>/", monitoring.metrics, name="metrics"),
    path("metrics/<str:secret>", monitoring.metrics),
    path("messages/<uuid:message_uuid>/resend/", shop_counter.resend, name="message_resend"),
    path("messages/<uuid:message_uuid>/send-now/", shop_counter.send_message_now, name="message_send_now"),
    path("messages/<uuid:message_uuid>/send-to/", shop_counter.send_to, name="message_send_to"),
    path("messages/<uuid:message_uuid>/asks-again/", shop_counter.asks_again, name="message_asks_again"),
    path("receipts/<int:failure_id>/send-now/", shop_counter.send_now, name="receipt_send_now"),
]
