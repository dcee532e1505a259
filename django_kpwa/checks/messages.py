"""Functions that make the checks' messages."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Warning

TAG = "kpwa"


def make_error(number: str, problem: str, hint: str) -> CheckMessage:
    return Error(problem, hint=hint, id=f"kpwa.{number}")


def make_warning(number: str, problem: str, hint: str) -> CheckMessage:
    return Warning(problem, hint=hint, id=f"kpwa.{number}")
