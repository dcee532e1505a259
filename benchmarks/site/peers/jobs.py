"""The procrastinate app whose idle worker is a floor: as in its quickstart, with one job that nobody defers."""

from __future__ import annotations

import os

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_PROCRASTINATE_URL"]))


@app.task()
def send(note_id: int) -> None:
    raise NotImplementedError(f"nothing defers a job, but {note_id} came")
