"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = ("lane", "send_message", "storm", "send_messages", "webhook")
"""In the order in which they are measured."""
