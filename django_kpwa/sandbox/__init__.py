"""A simulated WhatsApp phone behind the gateway's HTTP contract, for development, demos and tests.

It runs as its own process under its own settings and needs no database: `python -m django_kpwa.sandbox`.
"""
