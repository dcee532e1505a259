"""A simulated WhatsApp phone behind the gateway's HTTP contract, for development, demos and tests.

It runs as a separate process with its own settings and needs no database: `python -m django_kpwa.sandbox`.
"""
