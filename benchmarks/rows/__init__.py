"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = ("lane", "celery_cpu", "many_shops", "fairness", "storm", "latency")
"""In the order in which they are measured."""
