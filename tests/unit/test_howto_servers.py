"""The how-to pages for operators: files parse, commands exist, and a stop waits long enough for a running call."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.control import inspect
from celery.bin.worker import worker
from django.core.management import call_command
from django.urls import reverse

from django_kpwa.conf import Settings, lease_seconds
from django_kpwa.management.commands.kpwa import Command
from tests.pages import HOWTO, blocks_of


def files_of(page: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each block of a page whose first line names an absolute path."""
    for text in blocks_of(page, r"\w+"):
        if named := re.match(r"# (/\S+?):?\s", text):
            yield named[1], text


def parse_unit(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of a unit file. Raises `ValueError` for an invalid line or a repeated name."""
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
    """Raise an exception if `celery` or `manage.py kpwa` would refuse the arguments."""
    program, *arguments = shlex.split(command.replace("%H", "host"))
    if "kpwa" in arguments:
        kpwa = arguments[arguments.index("kpwa") + 1 :]
        assert Path(program).name == "python"
        assert arguments[0] == "manage.py"
        Command().create_parser("manage.py", "kpwa").parse_args(kpwa)
    else:
        assert Path(program).name == "celery"
        assert arguments[:2] == ["-A", "shop"]
        subcommand = {"worker": worker, "beat": beat, "inspect": inspect}[arguments[2]]
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
    lines = [line for line in "".join(blocks_of("cron.md", "cron")).splitlines() if "manage.py" in line]
    assert len(lines) == 3
    for line in lines:
        assert "%" not in line, "cron treats % as the end of the line"
        command = line[line.index("venv/bin/python") :].partition(" >>")[0]
        check_command(command)


TOKEN = "canary-token-Qz7_Qz7_Qz7_Qz7_Qz7_Qz7_Qz7_"
SECRET_ADDRESSES = [
    reverse(f"django_kpwa:{name}", args=[TOKEN]).rstrip("/") + end
    for name in ("webhook", "health", "metrics")
    for end in ("/", "")
]


def block_of(page: str, kind: str, begins: str) -> str:
    (block,) = [block for block in blocks_of(page, kind) if block.startswith(begins)]
    return block


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_nginx_masks_the_secret_of_every_address_of_ours(address):
    config = block_of("proxies.md", "nginx", "# /etc/nginx")
    pattern, masked = re.findall(r'^    "~(\S+)"\s+"(.*)";$', config, re.MULTILINE)[0]
    found = re.search(pattern.replace("(?<", "(?P<"), address)
    written = masked.replace("${kpwa_mount}", found["kpwa_mount"])
    assert written.endswith("/***")
    assert address.startswith(written.removesuffix("***"))
    location, level = re.findall(r"location ~ (\S+) \{\n\s+error_log \S+ (\w+);", config)[0]
    assert re.search(location, address)
    assert level == "emerg"
    assert set(re.findall(r"access_log \S+ ?(\w*);", config)) == {"kpwa"}
    (line,) = re.findall(r"log_format kpwa '(.*)';", config)
    assert not {"$request", "$request_uri", "$uri", "$args"} & set(re.findall(r"\$\w+", line))


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_caddy_masks_the_secret_of_every_address_of_ours_in_both_of_its_logs(address):
    filters = re.findall(r"request>uri regexp (\S+) (\S+)\n", block_of("proxies.md", "text", "# /etc/caddy"))
    assert len(filters) == 2
    for pattern, masked in filters:
        assert re.sub(pattern, masked.replace("$1", r"\1"), address) in {
            f"/kpwa/{kind}/***" for kind in ("webhooks", "health", "metrics")
        }


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_gunicorns_error_log_gets_no_secret(address):
    named: dict[str, type[logging.Filter]] = {}
    exec(block_of("proxies.md", "python", "# gunicorn.conf.py"), named)
    record = logging.LogRecord("gunicorn.error", logging.ERROR, "", 0, "Error handling request %s", (address,), None)
    assert named["WithoutSecrets"]().filter(record)
    assert TOKEN not in record.getMessage()
    assert record.getMessage().endswith("/***")


def test_the_containers_of_the_page_run_commands_that_exist_and_are_given_the_time_that_a_call_may_take():
    composed = yaml.safe_load(block_of("compose.md", "yaml", "# compose.yaml"))
    services = composed["services"]
    assert set(services) == {"web", "worker", "beat", "postgres", "redis"}
    for name in ("worker", "beat"):
        check_command(services[name]["command"])
        assert services[name]["stop_signal"] == "SIGTERM"
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > lease_seconds(Settings())
        assert set(services[name]["depends_on"]) == {"postgres", "redis"}
    check_command(services["worker"]["healthcheck"]["test"][1].replace("$$(hostname)", "host"))
    for service in services.values():
        assert set(service.get("secrets", ())) <= set(composed["secrets"])
        assert not [name for name in service.get("environment", {}) if re.search("PASSWORD$|KEY$", name)]


def test_the_task_of_the_page_calls_the_command_with_options_that_it_has(monkeypatch):
    (called,) = re.findall(r"call_command\((.*)\)", (HOWTO / "django-tasks.md").read_text())
    heard = []
    monkeypatch.setattr(Command, "execute", lambda self, *arguments, **options: heard.append(options))
    eval(f"call_command({called})", {"call_command": call_command})
    assert [(options["seconds"], options["verbosity"]) for options in heard] == [(20, 0)]
