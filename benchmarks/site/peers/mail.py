"""The mail backend through which django-post-office sends: the same POST for each message."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from ..loops import post
from . import http


class WhatsAppBackend(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            recipient = message.to[0].partition("@")[0]
            post(http.session(), settings.KPWA["BASE_URLS"][0], recipient, str(message.body))
        return len(email_messages)
