"""A small shop that uses the package, with tests that know nothing about the package.

tests/integration/test_pytest_plugin.py runs its tests in this folder, in separate processes.
"""

from .celery import app as celery_app

__all__ = ["celery_app"]
