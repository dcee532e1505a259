"""The table that a site without the app would have: what to send, to whom, and the outcome."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    recipient = models.CharField(max_length=64)
    text = models.TextField()
    status = models.CharField(max_length=16, default="queued", db_index=True)
    gateway_id = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "peers"

    def __str__(self) -> str:
        return f"{self.recipient}: {self.status}"
