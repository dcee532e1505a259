"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = (
    "lane", "send_message", "send_message_mariadb", "send_message_sqlite", "storm", "send_messages", "webhook",
    "start_up",
)  # fmt: skip
"""In the order in which they are measured."""
