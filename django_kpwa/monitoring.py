"""The site's health for machines: JSON for uptime monitors, and the same figures as Prometheus text.

Both URLs contain a secret, `KPWA["HEALTH_SECRET"]`. If it is not set or does not match, they answer with a 404. They
report the codes of what `health.look()` finds, never the texts: apart from the licenses' names they disclose no data,
in particular no phone number, key or message text.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import django.db
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from .conf import is_path_secret, kpwa_settings
from .containing import outside_transactions
from .encryption import Secret
from .logs import get_logger
from .masking import masked_traceback
from .models import HourlyStatistic

if TYPE_CHECKING:
    from .health import Health, Looked

logger = get_logger("django_kpwa.monitoring")

RESULTS = ("sent", "failed", "unknown")
"""The results by which today's messages are counted: columns of `HourlyStatistic`."""
_NO_LIBRARY = 'Install the extra "metrics": pip install "django-kpwa[metrics]"\n'

Document = dict[str, Any]


def document() -> Document:
    """Return the site's health: names, codes and numbers only.

    Raises `DatabaseError` if the database does not answer.
    """
    # Imported here: they need most of the app, and each process that reads the site's URLs imports this module.
    from .alerts import check_soon
    from .health import look

    check_soon()
    found = look()
    today = _today(found)
    return {
        "status": "blocked" if found.is_blocked else "attention" if found.findings else "ok",
        "database": True,
        "findings": [
            {
                "code": _code(finding.code),
                "tone": finding.tone.value,
                "blocks": finding.blocks,
                "license": finding.license.name if finding.license else None,
            }
            for finding in found.findings
        ],
        "licenses": [
            _license(each, found.now) | {"today": today.get(each.license.pk, dict.fromkeys(RESULTS, 0))}
            for each in found.licenses
        ],
        "more_licenses": found.is_cut,
        "heartbeats": {name: round(seconds, 1) for name, seconds in sorted(found.senders.seen.items())},
    }


def _license(looked: Looked, now: datetime) -> Document:
    queue = looked.queue
    return {
        "name": looked.license.name,
        "condition": looked.condition.code,
        "tone": looked.condition.tone.value,
        "waiting": queue.waiting.number,
        "more_waiting": queue.waiting.is_more,
        "oldest_waiting_seconds": None if queue.oldest_at is None else _age(queue.oldest_at, now),
    }


def _age(since: datetime, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 1)


def _code(code: Any) -> str:
    return str(getattr(code, "value", code))


def _today(found: Health) -> dict[int, Mapping[str, int]]:
    """Messages settled since midnight by license and result, from the hourly statistics instead of the messages."""
    midnight = timezone.make_aware(datetime.combine(timezone.localdate(found.now), time.min))
    license_ids = [each.license.pk for each in found.licenses]
    hours = HourlyStatistic.objects.filter(hour__gte=midnight, license_id__in=license_ids).order_by()
    sums = hours.values_list("license_id").annotate(*(Sum(name) for name in RESULTS))
    return {license_id: dict(zip(RESULTS, counts, strict=True)) for license_id, *counts in sums}


# --- the same figures as Prometheus text ---


class _Collector:
    """Passes a document's figures to `prometheus_client`."""

    def __init__(self, told: Document, families: Any) -> None:
        self._told, self._families = told, families

    def collect(self) -> Iterator[Any]:
        told = self._told
        blocked: dict[tuple[str, ...], float] = {(): float(_is_blocked(told))}
        yield self._gauge("kpwa_blocked", "1 if no receipt, or none of some license, goes out.", blocked)
        yield self._gauge(
            "kpwa_finding",
            "1 for everything that is wrong or needs attention.",
            {
                (each["code"], each["license"] or "", each["tone"], str(each["blocks"]).lower()): 1
                for each in told["findings"]
            },
            "code", "license", "tone", "blocks",
        )  # fmt: skip
        licenses = told["licenses"]
        yield self._gauge(
            "kpwa_license_condition",
            "1 for the current condition of a license.",
            {(each["name"], each["condition"], each["tone"]): 1 for each in licenses},
            "license", "condition", "tone",
        )  # fmt: skip
        yield self._gauge(
            "kpwa_waiting_messages",
            "Messages that wait, counted up to 10,000.",
            {(each["name"],): each["waiting"] for each in licenses},
            "license",
        )
        yield self._gauge(
            "kpwa_oldest_waiting_message_age_seconds",
            "Time since the oldest waiting message was stored.",
            {
                (each["name"],): each["oldest_waiting_seconds"]
                for each in licenses
                if each["oldest_waiting_seconds"] is not None
            },
            "license",
        )
        yield self._gauge(
            "kpwa_heartbeat_age_seconds",
            "Time since a service of the site was last seen.",
            {(name,): seconds for name, seconds in told["heartbeats"].items()},
            "service",
        )
        # A counter that is reset at midnight: rate() and increase() treat that as a restart.
        today = self._families.CounterMetricFamily(
            "kpwa_messages_today", "Messages settled since midnight, by result.", labels=["license", "result"]
        )
        for each in licenses:
            for result, count in each["today"].items():
                today.add_metric([each["name"], result], count)
        yield today

    def _gauge(self, name: str, help_: str, samples: Mapping[tuple[str, ...], float], *labels: str) -> Any:
        gauge = self._families.GaugeMetricFamily(name, help_, labels=labels)
        for values, figure in samples.items():
            gauge.add_metric(values, figure)
        return gauge


def _is_blocked(told: Document) -> bool:
    return bool(told["status"] == "blocked")


# --- the views ---


def _answer_health() -> HttpResponse:
    told = document()
    return JsonResponse(told, status=503 if _is_blocked(told) else 200)


def _answer_metrics() -> HttpResponse:
    """Answer 200 even while receipts do not go out: Prometheus drops the figures of any other answer."""
    try:
        library, families = import_module("prometheus_client"), import_module("prometheus_client.core")
    except ImportError:
        return HttpResponse(_NO_LIBRARY, status=501, content_type="text/plain; charset=utf-8")
    registry = library.CollectorRegistry(auto_describe=False)
    registry.register(_Collector(document(), families))
    return HttpResponse(library.generate_latest(registry), content_type=library.CONTENT_TYPE_LATEST)


def _view(answer: Callable[[], HttpResponse]) -> Callable[..., HttpResponse]:
    @csrf_exempt
    @sensitive_variables()
    def view(request: HttpRequest, secret: str) -> HttpResponse:
        response = _contained(request, secret, answer)
        response["Cache-Control"] = "no-store"
        # Keeps Django's log_response() from logging the path, which contains the secret.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response

    # With ATOMIC_REQUESTS, a request would fail before the view is called if the database is down.
    return outside_transactions(view)


@sensitive_variables()
def _contained(request: HttpRequest, secret: str, answer: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        if not _is_right(secret):
            return JsonResponse({"status": "error", "message": "Not found."}, status=404)
        if request.method not in ("GET", "HEAD"):
            refusal = JsonResponse({"status": "error", "message": "Only GET and HEAD are allowed."}, status=405)
            refusal["Allow"] = "GET, HEAD"
            return refusal
        return answer()
    except django.db.Error as error:
        # Only the type is logged, because databases quote rows in their error messages.
        logger.error("The site's health could not be read from the database (%s).", type(error).__name__)
        return JsonResponse({"status": "blocked", "database": False}, status=503)
    except Exception as error:
        logger.error("The site's health could not be determined.\n%s", masked_traceback(error, Secret(secret)))
        return JsonResponse({"status": "error", "message": "Internal error."}, status=500)


@sensitive_variables()
def _is_right(secret: str) -> bool:
    """True if `secret` is the configured one, compared in constant time. A weak configured secret never matches."""
    wanted = kpwa_settings().HEALTH_SECRET
    is_same = secrets.compare_digest(_digest(secret), _digest(wanted))
    return is_path_secret(wanted) and is_same


def _digest(secret: str) -> bytes:
    __traceback_hide__ = True
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


health = _view(_answer_health)
metrics = _view(_answer_metrics)
