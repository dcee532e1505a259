"""The rows of the table, each a module with `measure(scale) -> list[Result]`."""

ROWS = (
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
    "growth",
    "sweep",
    "purge",
)
"""In the order in which they are measured."""
