"""Keeps what our pages show of customers out of the reports of errors that Django mails.

The variables of a page that fails are full of numbers and texts, and so are those of Django's templates, which no
`sensitive_variables` reaches: a `TemplateResponse` is rendered after its view. A request's own filter reaches them all.
"""

from __future__ import annotations

import functools
from types import FrameType
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter


def without_variables(pattern: URLPattern) -> URLPattern:
    """`pattern` with a view whose reports show neither variables nor what was posted; under DEBUG they show all."""
    view, hiding = pattern.callback, _hiding_filter()

    @functools.wraps(view)
    def reported(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.exception_reporter_filter = hiding
        response: HttpResponse = view(request, *args, **kwargs)
        return response

    pattern.callback = reported
    return pattern


def _hiding_filter() -> SafeExceptionReporterFilter:
    """The site's own filter, which shows names alone."""

    class HidingFilter(get_exception_reporter_filter(None).__class__):  # type: ignore[misc]
        def get_post_parameters(self, request: HttpRequest | None) -> Any:
            posted = super().get_post_parameters(request)
            return dict.fromkeys(posted, self.cleansed_substitute) if self.is_active(request) else posted

        def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
            shown = super().get_traceback_frame_variables(request, tb_frame)
            return [(name, self.cleansed_substitute) for name, _ in shown] if self.is_active(request) else shown

    return HidingFilter()
