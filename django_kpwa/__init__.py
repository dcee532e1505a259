"""WhatsApp receipts and notices from a Django site, through the Kasirpintar WA gateway.

The front door is `django_kpwa.outbox`; receipts are declared with `django_kpwa.receipts`.
"""

__version__ = "0.1.0"
