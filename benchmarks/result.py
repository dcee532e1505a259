"""The result of a row: samples of ours and of the other side, and the ratio to reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scale:
    """Size of a run. `quick` is for every day; `smoke` only checks that the benchmarks still work."""

    name: str

    def of(self, full: int, quick: int, smoke: int) -> int:
        return {"full": full, "quick": quick, "smoke": smoke}[self.name]

    @property
    def repeats(self) -> int:
        """How often both sides run, in turn."""
        return self.of(5, 3, 1)


@dataclass(frozen=True)
class Sample:
    """One run of one side. CPU is in seconds: ours with children, and the database's separately. Memory is in MiB."""

    units: int
    wall_seconds: float
    cpu_seconds: float = 0.0
    database_cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    @property
    def wall_ms(self) -> float:
        return self.wall_seconds / self.units * 1000

    @property
    def cpu_ms(self) -> float:
        """CPU time of ours and the database together, per unit."""
        return (self.cpu_seconds + self.database_cpu_seconds) / self.units * 1000


@dataclass(frozen=True)
class Result:
    """One line of the table. `ratio` is compared with `target` by `wants`, "<=" or ">="."""

    name: str
    floor: str
    ratio: float
    target: float
    wants: str = "<="
    figures: dict[str, Any] = field(default_factory=dict)
    ours: list[Sample] = field(default_factory=list)
    against: list[Sample] = field(default_factory=list)
    unit: str = "×"
    note: str = ""

    @property
    def is_missed(self) -> bool:
        return self.ratio > self.target if self.wants == "<=" else self.ratio < self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_missed": self.is_missed}


def in_turn(repeats: int, *sides: Callable[[], Sample]) -> tuple[list[Sample], ...]:
    """Run every side `repeats` times, in turn, so that other load of the machine slows all of them."""
    samples: tuple[list[Sample], ...] = tuple([] for _ in sides)
    for turn in range(repeats):
        # Every other time backwards, so that no side always has the cold start.
        order = list(zip(samples, sides, strict=True))
        for kept, side in order if turn % 2 == 0 else reversed(order):
            kept.append(side())
    return samples


def compared(ours: Sequence[Sample], against: Sequence[Sample], measure: Callable[[Sample], float]) -> float:
    """The ratio of the medians of `measure`."""
    return statistics.median(map(measure, ours)) / statistics.median(map(measure, against))


def figures_of(samples: Sequence[Sample]) -> dict[str, float]:
    """The medians of one side, as the table shows them."""
    return {
        "wall_ms": round(statistics.median(sample.wall_ms for sample in samples), 3),
        "cpu_ms": round(statistics.median(sample.cpu_seconds / sample.units * 1000 for sample in samples), 3),
        "database_cpu_ms": round(
            statistics.median(sample.database_cpu_seconds / sample.units * 1000 for sample in samples), 3
        ),
        "peak_mib": round(max(sample.peak_mib for sample in samples), 1),
    }


def result_of(
    name: str,
    floor: str,
    ours: list[Sample],
    against: list[Sample],
    measure: Callable[[Sample], float],
    target: float,
    wants: str = "<=",
    note: str = "",
) -> Result:
    """The usual line: medians of both sides, and their ratio."""
    return Result(
        name,
        floor,
        compared(ours, against, measure),
        target,
        wants,
        {"ours": figures_of(ours), "floor": figures_of(against)},
        ours,
        against,
        note=note,
    )


def worse_of_both(name: str, floor: str, ours: list[Sample], against: list[Sample], target: float) -> Result:
    """The line of the wall time or of the CPU, whichever is worse, so that neither can be traded for the other."""
    measures: dict[str, Callable[[Sample], float]] = {
        "wall time": lambda sample: sample.wall_ms,
        "CPU": lambda sample: sample.cpu_ms,
    }
    worse = max(measures, key=lambda measure: compared(ours, against, measures[measure]))
    return result_of(name, floor, ours, against, measures[worse], target, note=worse)
