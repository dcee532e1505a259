"""A small point of sale that sends its receipts through django-kpwa."""

from .celery import app as celery_app

# Imported here as Celery's documentation recommends, so that every Django process publishes with this app.
__all__ = ["celery_app"]
