"""The how-to pages for whoever runs a site: files parse, commands exist, and a stop waits long enough for a call."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from django_kpwa.conf import Settings, lease_seconds
from django_kpwa.management.commands.kpwa import Command

PAGES = Path(__file__).resolve().parent.parent.parent / "docs/howto"


def files_of(page: str) -> Iterator[tuple[str, str]]:
    """The name and the text of each block of a page whose first line names an absolute path."""
    for text in re.findall(r"```\w+\n(.*?)```", (PAGES / page).read_text(), re.DOTALL):
        if named := re.match(r"# (/\S+?):?\s", text):
            yield named[1], text


def parse_unit(text: str) -> dict[str, dict[str, str]]:
    """The sections of a unit file. Raises `ValueError` for a line that is none of its, or a name that comes twice."""
    sections: dict[str, dict[str, str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        if line.startswith("["):
            values = sections[line.strip("[]")] = {}
        else:
            name, value = line.split("=", 1)
            if name in values:
                raise ValueError(f"{name} comes twice")
            values[name] = value
    return sections


def check_command(command: str) -> None:
    """Raises an exception if `celery` or `manage.py kpwa` would refuse the arguments."""
    program, *arguments = shlex.split(command.replace("%H", "host"))
    if "kpwa" in arguments:
        kpwa = arguments[arguments.index("kpwa") + 1 :]
        assert Path(program).name == "python"
        assert arguments[0] == "manage.py"
        Command().create_parser("manage.py", "kpwa").parse_args(kpwa)
    else:
        assert Path(program).name == "celery"
        assert arguments[:2] == ["-A", "shop"]
        subcommand = {"worker": worker, "beat": beat}[arguments[2]]
        subcommand.make_context(
            arguments[2], arguments[3:], obj=CLIContext(Celery("shop"), no_color=True, workdir=None)
        )


def units() -> dict[str, dict[str, dict[str, str]]]:
    return {
        Path(path).name: parse_unit(text) for path, text in files_of("systemd.md") if path.startswith("/etc/systemd/")
    }


@pytest.mark.parametrize("name", ["shop-worker.service", "shop-beat.service", "shop-kpwa.service"])
def test_every_service_of_the_page_starts_a_command_that_exists(name):
    check_command(units()[name]["Service"]["ExecStart"])
    assert units()[name]["Install"] == {"WantedBy": "multi-user.target"}


def test_a_service_is_given_the_time_that_a_call_may_take_and_its_children_no_signal():
    shared = units()["shop.conf"]["Service"]
    assert int(shared["TimeoutStopSec"]) > lease_seconds(Settings())
    assert shared["KillMode"] == "mixed"
    assert shared["KillSignal"] == "SIGTERM"


def test_every_line_of_the_crontabs_runs_a_command_that_exists():
    tables = re.findall(r"```cron\n(.*?)```", (PAGES / "cron.md").read_text(), re.DOTALL)
    lines = [line for line in "".join(tables).splitlines() if "manage.py" in line]
    assert len(lines) == 3
    for line in lines:
        assert "%" not in line, "cron takes it for the end of the line"
        command = line[line.index("venv/bin/python") :].partition(" >>")[0]
        check_command(command)
