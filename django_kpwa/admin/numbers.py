"""Looks for a customer's number in an indexed column, in any spelling or by its beginning."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from .. import phone
from ..exceptions import InvalidPhoneNumberError

FEWEST_DIGITS = 6
"""The beginning of a number is looked for from so many digits on, its country code among them."""


def by_number(rows: QuerySet[Any], field: str, term: str, *, only: Q = Q()) -> Q:  # noqa: B008 - it is not changed
    """Finds the rows whose `field` is what was typed, or the number that it means, or begins with its digits.

    `only` narrows what is found by a beginning.
    """
    exact = Q(**{field: term})
    number = _number(term)
    # Half a number may be a whole one too: 628123456 is a landline.
    if number and rows.filter(**{field: number}).exists():
        return Q(**{f"{field}__in": [number, term]})
    beginning = phone.gateway_reading(term)
    if not FEWEST_DIGITS <= len(beginning) <= phone.MAX_LENGTH or any(character.isalpha() for character in term):
        return exact
    # A range, which every index serves; LIKE needs a special one on PostgreSQL.
    return exact | (only & Q(**{f"{field}__gte": beginning, f"{field}__lt": str(int(beginning) + 1)}))


def _number(term: str) -> str:
    try:
        return phone.parse(term)
    except InvalidPhoneNumberError:
        return ""
