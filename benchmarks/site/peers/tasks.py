"""A Celery task per message, written straightforwardly: it claims, posts and records through the ORM.

It promises nothing more: no lanes, no pace, no attempts, and messages that are `sending` when a worker dies stay so.
"""

from __future__ import annotations

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from ..loops import post
from . import http
from .models import Note


@shared_task(ignore_result=True)
def send_note(note_id: int) -> None:
    if not Note.objects.filter(pk=note_id, status="queued").update(status="sending"):
        return
    note = Note.objects.get(pk=note_id)
    note.gateway_id = post(http.session(), settings.KPWA["BASE_URLS"][0], note.recipient, note.text)
    note.status = "sent"
    note.sent_at = timezone.now()
    note.save(update_fields=["gateway_id", "status", "sent_at"])
