"""Receipts: from a model's signal to a message."""


def autodiscover() -> None:
    """Import the `whatsapp` module of every installed app."""
    from django.utils.module_loading import autodiscover_modules

    autodiscover_modules("whatsapp")
