"""Whether this process runs a site's tests: then nothing is published to its broker, nor sent through the real service.

The live worker would take the tests' wake-ups for its own and look for licenses that are the test database's alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_reaching_outside = 0


def is_rehearsal() -> bool:
    """Whether Django's test runner or pytest-django set this process up, and no test asked for the real thing."""
    # What `setup_test_environment()` leaves, which both call. A process that runs no tests never imports the module.
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data") and not _reaching_outside


@contextmanager
def reach_outside() -> Iterator[None]:
    """Publish to the broker and use the gateway that the settings name, in a test that has both to itself."""
    global _reaching_outside
    _reaching_outside += 1
    try:
        yield
    finally:
        _reaching_outside -= 1
