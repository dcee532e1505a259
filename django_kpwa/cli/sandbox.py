"""`kpwa sandbox`: the simulated phone, and a license of this site that sends to it."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any, NoReturn
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections

from ..gateway import load_gateway_class
from ..models import License
from .console import EXIT_USAGE, Console, Subcommand


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs="*", help="arguments of python -m django_kpwa.sandbox")


def _run(console: Console, options: dict[str, Any]) -> NoReturn:
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--add-license", metavar="NAME")
    given, arguments = ours.parse_known_args(options["arguments"])
    if given.add_license is not None:
        arguments.append("--linked")
        _add_license(console, given.add_license, arguments)
    # The sandbox has Django settings of its own, which cannot be loaded into a process that has the site's settings.
    os.execv(sys.executable, [sys.executable, "-m", "django_kpwa.sandbox", *arguments])  # noqa: S606


def _add_license(console: Console, name: str, arguments: list[str]) -> None:
    """Add a license that sends to a sandbox started with `arguments`, unless an earlier run has added it.

    The license has its own base URL, so that the site's other licenses and settings are not affected.
    """
    # Imported here, because it imports the whole sandbox, which no other subcommand needs.
    from ..sandbox.__main__ import reached_by

    if not settings.DEBUG:
        raise CommandError(
            "--add-license is for a site under development: with DEBUG off, receipts of customers could end in the "
            "sandbox. Nothing was added.",
            returncode=EXIT_USAGE,
        )
    if not load_gateway_class().leaves_the_process:
        raise CommandError(
            "KPWA['GATEWAY'] sends nothing, so the phone would show none of your messages: take it out of KPWA first. "
            "Nothing was added.",
            returncode=EXIT_USAGE,
        )
    try:
        base_url, key = reached_by(arguments)
    except ValueError as error:
        raise CommandError(str(error), returncode=EXIT_USAGE) from error
    _must_be_free(base_url)
    known = License.objects.filter(name=name).first()
    if known is not None and known.base_url != base_url:
        raise CommandError(
            f"{name} is a license with another address than this sandbox. Choose another name.", returncode=EXIT_USAGE
        )
    license_ = known or License(name=name, base_url=base_url)
    license_.full_clean()
    license_.set_api_key(key)
    license_.save()
    connections.close_all()
    console.say(f"{'Found' if known else 'Added'} {name}: it sends to the simulated phone, which is linked.\n")


def _must_be_free(base_url: str) -> None:
    """Raise `CommandError` if another program listens there, to which the license would send: maybe another sandbox."""
    address = urlsplit(base_url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=1).close()
    except OSError:
        return
    raise CommandError(
        f"Port {address.port} is taken, perhaps by another sandbox: stop it, or choose another port with --port. "
        "Nothing was added.",
        returncode=EXIT_USAGE,
    )


SANDBOX = Subcommand("start a simulated WhatsApp phone; see `manage.py kpwa sandbox --help`", _add_arguments, _run)
