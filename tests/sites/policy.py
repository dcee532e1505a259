"""The Content-Security-Policy of a strict site: nothing inline, nothing from elsewhere."""

from __future__ import annotations

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'; form-action 'self'"


class StrictPolicyMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        answer = self.get_response(request)
        answer["Content-Security-Policy"] = POLICY
        return answer
