"""The page that looks like a phone, and the QR code on it. Everything else is drawn by `phone.js` from JSON."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from ..gateway.qr import LoginQr
from .world import current

# Receipts may show pictures from anywhere; nothing else comes from elsewhere. No frame-ancestors: the demo shows the
# phone in a frame beside its till, whatever address it is reached by.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; "
    "form-action 'none'; base-uri 'none'"
)


@require_http_methods(["GET", "HEAD"])
def phone_page(request: HttpRequest) -> HttpResponse:
    """The phone; with `?embed=1` without the panels beside it, for a frame."""
    response = render(request, "sandbox/phone.html", {"embedded": "embed" in request.GET})
    response["Content-Security-Policy"] = _POLICY
    response["Referrer-Policy"] = "no-referrer"
    return response


@require_http_methods(["GET", "HEAD"])
def qr_image(request: HttpRequest) -> HttpResponse:
    """The present QR code of `license` as PNG. (The `serial` in its address only tells one code from the next.)"""
    sandbox = current()
    try:
        account = sandbox.account(request.GET.get("license", ""))
    except LookupError as error:
        return JsonResponse({"message": str(error)}, status=404)
    response = HttpResponse(LoginQr.from_text(sandbox.current_qr(account)).png(), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response
