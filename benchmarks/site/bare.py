"""The least view that accepts a webhook: JSON parsed, one INSERT, an answer. The floor of the row `webhook`.

It has no secret and no size limit, counts no repeats, and notifies nobody.
"""

from __future__ import annotations

import hashlib
import json
import uuid

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

INSERT = """
INSERT INTO django_kpwa_webhookevent (uuid, license_id, body, content_type, digest, received_at, last_received_at,
  times_received, status, next_try_at, tries, kind, understood, sender_number, gateway_id, error)
VALUES (%s, %s, %s, %s, %s, now(), now(), 1, 'pending', now(), 0, '', '{}', '', '', '')
ON CONFLICT (digest) DO NOTHING
"""


@csrf_exempt
def store(request: HttpRequest, license_id: int) -> JsonResponse:
    body = request.body
    json.loads(body)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, (uuid.uuid4(), license_id, body, request.content_type, hashlib.sha256(body).hexdigest()))
    return JsonResponse({"status": "ok"})
