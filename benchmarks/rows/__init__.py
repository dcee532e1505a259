"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = ("lane", "growth", "sweep", "purge")
"""In the order in which they are measured."""
