"""Two worker machines compared with one, with RabbitMQ as the broker: see `machines`."""

from __future__ import annotations

from benchmarks.result import Result, Scale

from .machines import measured


def measure(scale: Scale) -> list[Result]:
    return measured(scale, "rabbitmq")
