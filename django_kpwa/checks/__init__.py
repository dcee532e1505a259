"""System checks: what is likely to hold receipts back or to lose them, each with an id and what to write instead.

Checks that ask the database have Django's `database` tag: they run with `migrate` and `check --database default`. None
of those is an error, because an error would keep `migrate` from mending what it is about.
"""

from . import configuration, database, gateways, receipts, webhooks

__all__ = ["configuration", "database", "gateways", "receipts", "webhooks"]
