"""Whether this process runs a site's tests: if so, nothing is published to the broker or sent by the real gateway.

Otherwise a live worker would receive the tests' wake-ups, and look for licenses that exist only in the test database.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_reaching_outside = 0


def is_rehearsal() -> bool:
    """True if Django's test runner or pytest-django set up this process, outside of `reach_outside()`."""
    # Both call `setup_test_environment()`, which sets this attribute. A process without tests does not import the
    # module, and is not made to do so here.
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data") and not _reaching_outside


@contextmanager
def reach_outside() -> Iterator[None]:
    """Inside this block, publish to the broker and use the gateway of the settings, for a test that runs its own."""
    global _reaching_outside
    _reaching_outside += 1
    try:
        yield
    finally:
        _reaching_outside -= 1
