"""How welcome a media type is by an Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations


def accepted_quality(accept: str, media_type: str) -> float:
    """From 0 (not at all) to 1; the most specific range that fits decides. Without a header, anything is welcome."""
    if not accept.strip():
        return 1.0
    ranges = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}
    best, quality = 0, 0.0
    for given in accept.lower().split(","):
        name, *parameters = (part.strip() for part in given.split(";"))
        if ranges.get(name, 0) > best:
            best, quality = ranges[name], _quality(parameters)
    return quality


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0
