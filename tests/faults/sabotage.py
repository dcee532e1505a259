"""Forces an error in each function of the package in turn, while something real is done.

    for place in places_of(step):       # every function of the package that `step()` runs
        raise_at(place, step)           # `step()` again; a ForcedError rises in the last line that the function runs

In its last line a function's variables hold the most, and error reports print these variables.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import django_kpwa

PACKAGE = Path(django_kpwa.__file__).parent


class ForcedError(Exception):
    """An error that no code of the package can expect."""


@dataclass(frozen=True)
class Place:
    """A function, and how many lines its first call runs before the last."""

    file: str
    function: str
    first_line: int
    lines: int

    def __str__(self) -> str:
        return f"{Path(self.file).relative_to(PACKAGE)}:{self.function}"


def places_of(step: Callable[[], object]) -> list[Place]:
    """Every function of the package that `step` runs, in the order of their first calls."""
    lines: dict[_Key, int] = {}

    def count(key: _Key) -> Callable[..., object]:
        lines[key] = seen = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal seen
            if event == "line":
                seen += 1
                if not _is_with(frame):
                    lines[key] = seen
            return trace

        return trace

    def called(frame: FrameType, event: str, _: object) -> object:
        key = _key(frame)
        return count(key) if key is not None and key not in lines else None

    _traced(step, called)
    return [Place(*key, number) for key, number in lines.items() if number]


def raise_at(place: Place, step: Callable[[], object]) -> tuple[bool, Exception | None]:
    """Run `step` with an error in `place`. Returns True if that place was run, and the exception that `step` raised."""
    left = place.lines

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        left -= event == "line"
        if event == "line" and not left:
            raise ForcedError(f"forced in {place}")
        return trace

    def called(frame: FrameType, event: str, _: object) -> object:
        return trace if left == place.lines and _key(frame) == (place.file, place.function, place.first_line) else None

    try:
        _traced(step, called)
    except Exception as error:
        return left <= 0, error
    return left <= 0, None


_Key = tuple[str, str, int]


def _traced(step: Callable[[], object], called: Callable[..., object]) -> None:
    before = sys.gettrace()
    sys.settrace(called)  # type: ignore[arg-type]
    try:
        step()
    finally:
        sys.settrace(before)


def _is_with(frame: FrameType) -> bool:
    """True for a line to which Python returns to leave the block. An error there would skip the exit of the `with`."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


def _key(frame: FrameType) -> _Key | None:
    code = frame.f_code
    if not code.co_filename.startswith(str(PACKAGE)) or "/migrations/" in code.co_filename:
        return None
    return code.co_filename, code.co_name, code.co_firstlineno
