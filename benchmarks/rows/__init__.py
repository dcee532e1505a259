"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = (
    "send_message",
    "send_message_mariadb",
    "send_message_sqlite",
    "send_messages",
    "lane",
    "lane_mariadb",
    "lane_sqlite",
    "celery_cpu",
    "many_shops",
    "fairness",
    "storm",
    "latency",
    "latencies_hidden",
    "memory",
    "machines",
    "machines_rabbitmq",
    "sqlite_busy",
    "webhook",
    "ticks",
    "growth",
    "sweep",
    "purge",
    "start_up",
)
"""In the order in which they are measured."""
