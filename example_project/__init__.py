"""A small point of sale that sends its receipts through django-kpwa."""

from .celery import app as celery_app

# Celery's documentation asks for it here: tasks and wake-ups of every Django process use this app.
__all__ = ["celery_app"]
