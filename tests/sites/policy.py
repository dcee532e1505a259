"""The Content-Security-Policy of a strict site: nothing inline, and nothing from other hosts."""

from __future__ import annotations

from django.http import HttpResponse

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'; form-action 'self'"


class StrictPolicyMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/favicon.ico":
            # Browsers request it for pages without an icon, such as those of the admin.
            return HttpResponse(status=204)
        answer = self.get_response(request)
        answer["Content-Security-Policy"] = POLICY
        return answer
