"""`python -m django_kpwa.sandbox`: runs the simulated phone as a separate process with its own settings."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from ipaddress import ip_address

from .world import DEFAULT_KEY, DEFAULT_LICENSE, Sandbox, install

EXIT_USAGE = 2
EXIT_PORT_TAKEN = 3


def main(argv: list[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Returns the exit code: 0 after it was stopped, 2 for invalid arguments, 3 if the address is taken.
    """
    options = _parser().parse_args(argv)
    try:
        sandbox = _furnished(options)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    install(sandbox)
    _set_up_django(options.host)
    return _serve(options, sandbox)


def reached_by(arguments: list[str]) -> tuple[str, str]:
    """Return the base URL of a sandbox with these arguments, and the API key of its first license.

    Raises `ValueError` if it is to take any free port, because the URL is not known before it listens. Raises
    `SystemExit` for invalid arguments.
    """
    options = _parser().parse_args(arguments)
    if not options.port:
        raise ValueError("The sandbox takes any free port (--port 0), so its address is not known yet: name a port.")
    _, _, key = next(iter(options.license), f"{DEFAULT_LICENSE}:{DEFAULT_KEY}").partition(":")
    return f"{_address(options.host, options.port)}/backend", key


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m django_kpwa.sandbox",
        description="A simulated WhatsApp phone behind the gateway's HTTP contract. Nothing leaves this machine.",
        epilog="`manage.py kpwa sandbox` takes one more: --add-license NAME adds the license to the site, linked. "
        "Only under DEBUG.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8900, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--linked", action="store_true", help="start with the phone linked, without scanning a QR code")
    parser.add_argument(
        "--license",
        action="append",
        default=[],
        metavar="NAME:KEY",
        help=f"a license and its API key; may be repeated (default: {DEFAULT_LICENSE}:{DEFAULT_KEY})",
    )
    parser.add_argument("--group", action="append", default=[], metavar="NAME", help="a group; may be repeated")
    parser.add_argument(
        "--unregistered",
        action="append",
        default=[],
        metavar="NUMBER",
        help="a number without WhatsApp; may be repeated",
    )
    parser.add_argument(
        "--unlinked-status",
        type=int,
        choices=(400, 500),
        default=400,
        help="what a send answers while the phone is not linked (default: %(default)s)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=PROBABILITY[:AMOUNT]",
        help="a fault, its probability from 0 to 1, and its amount if not the usual one; may be repeated",
    )
    parser.add_argument("--latency", type=float, metavar="MS", help="milliseconds added to the time of every answer")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="a seed that makes the faults strike the same requests every time"
    )
    return parser


def _furnished(options: argparse.Namespace) -> Sandbox:
    from ..phone import gateway_reading

    sandbox = Sandbox(seed=options.seed)
    for license_and_key in options.license or [f"{DEFAULT_LICENSE}:{DEFAULT_KEY}"]:
        name, _, key = license_and_key.partition(":")
        if not name or not key:
            raise ValueError("--license must be NAME:KEY.")
        sandbox.add_account(name, key, linked=options.linked, groups=options.group)
    for number in options.unregistered:
        sandbox.set_registered(gateway_reading(number), False)
    sandbox.set_unlinked_status(options.unlinked_status)
    if options.latency is not None:
        sandbox.faults.update({"latency": {"amount": options.latency}})
    for fault in options.fault:
        name, _, settings = fault.partition("=")
        probability, colon, amount = settings.partition(":")
        try:
            setting = {"probability": float(probability)} | ({"amount": float(amount)} if colon else {})
        except ValueError:
            raise ValueError(f"--fault must be NAME=PROBABILITY or NAME=PROBABILITY:AMOUNT, not {fault!r}.") from None
        sandbox.faults.update({name: setting})
    return sandbox


def _set_up_django(host: str) -> None:
    # The shell or a manage.py may have set this variable to the site's settings, which must not apply here.
    os.environ["DJANGO_SETTINGS_MODULE"] = "django_kpwa.sandbox.settings"
    if host not in ("localhost", "127.0.0.1", "::1"):
        os.environ["KPWA_SANDBOX_ALLOWED_HOSTS"] = "*"
    import django

    django.setup()


def _serve(options: argparse.Namespace, sandbox: Sandbox) -> int:
    # These modules can be imported only after Django's settings are configured.
    from django.core.wsgi import get_wsgi_application

    from .transport import FaultyTransport, serve

    try:
        server = serve(options.host, options.port, FaultyTransport(get_wsgi_application(), sandbox))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        sys.stderr.write(
            f"The sandbox cannot listen on {options.host}:{options.port}: {reason}.\n"
            "Choose another port with --port (0 takes a free one).\n"
        )
        return EXIT_PORT_TAKEN
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # shells make background processes ignore Ctrl-C: keep that
            signal.signal(number, lambda *_: server.stop())
    _announce(_address(options.host, server.server_port), sandbox)
    server.serve_until_stopped()
    return 0


def _address(host: str, port: int) -> str:
    shown = host or "127.0.0.1"
    with contextlib.suppress(ValueError):  # raised for a host name
        # A browser cannot open a wildcard address, so the loopback address is shown in its place.
        if ip_address(shown).is_unspecified:
            shown = "::1" if ":" in shown else "127.0.0.1"
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _announce(address: str, sandbox: Sandbox) -> None:
    lines = [
        "A simulated WhatsApp phone is running.",
        "",
        f"  Phone     {address}/",
        f'  Base URL  {address}/backend    (KPWA = {{"BASE_URLS": ["{address}/backend"]}})',
    ]
    for account in sandbox.accounts:
        linked = "linked" if account.linked else "not linked yet: open the phone and scan"
        lines.append(f"  License   {account.name}, API key {account.key.reveal()}    ({linked})")
    lines.append(
        '  Webhooks  to KPWA["PUBLIC_URL"], for runserver http://127.0.0.1:8000    (manage.py kpwa webhook set)'
    )
    lines += ["", "Ctrl-C stops it; nothing is kept.", ""]
    sys.stdout.write("\n".join(lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
