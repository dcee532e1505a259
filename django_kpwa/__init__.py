"""WhatsApp receipts and notices from a Django site, through the Kasirpintar WA gateway.

Messages are queued with `django_kpwa.outbox`; receipts are declared with `django_kpwa.receipts`.
"""

__version__ = "0.1.0"
