"""Views of the page that looks like a phone, and of its QR code. `phone.js` draws everything else from JSON."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from ..gateway.qr import LoginQr
from .world import current

# Images may come from anywhere, because receipts link to them; everything else comes from this server. frame-ancestors
# is left out: the demo shows the phone in a frame beside its till, at whatever address it runs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; "
    "form-action 'none'; base-uri 'none'"
)


@require_http_methods(["GET", "HEAD"])
def phone_page(request: HttpRequest) -> HttpResponse:
    """The phone. With `?embed=1` the panels beside it are left out, for use in a frame."""
    response = render(request, "sandbox/phone.html", {"embedded": "embed" in request.GET})
    response["Content-Security-Policy"] = _POLICY
    response["Referrer-Policy"] = "no-referrer"
    return response


@require_http_methods(["GET", "HEAD"])
def qr_image(request: HttpRequest) -> HttpResponse:
    """The current QR code of `license` as PNG. The URL's `serial` is ignored: it only makes each code's URL unique."""
    sandbox = current()
    try:
        account = sandbox.account(request.GET.get("license", ""))
    except LookupError as error:
        return JsonResponse({"message": str(error)}, status=404)
    response = HttpResponse(LoginQr.from_text(sandbox.current_qr(account)).png(), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response
