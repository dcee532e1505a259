"""A small shop, as somebody has it who installed the package and never thought of it in tests.

tests/integration/test_pytest_plugin.py runs its tests as their own processes, in this folder.
"""

from .celery import app as celery_app

__all__ = ["celery_app"]
