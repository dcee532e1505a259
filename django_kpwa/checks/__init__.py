"""System checks for what is likely to delay or lose receipts. Each has an id, and a hint that says what to write.

Checks that query the database have Django's `database` tag: they run with `migrate` and `check --database default`.
None of these is an error, because an error would stop the `migrate` that may be the remedy.
"""

from .registration import register_with_django

__all__ = ["register_with_django"]
