"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = ("lane", "celery_cpu", "many_shops")
"""In the order in which they are measured."""
