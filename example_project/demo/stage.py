"""Defines the processes of a demo, their environment, and its messages. Processes start in the order of dependency."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from .home import HOST, Home, Port
from .log import Log
from .preparation import PASSWORD, USERNAME, api_key_of
from .supervisor import Part, StartError, StoppedError, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder of `manage.py`."""
SITE_PORT, PHONE_PORT = 8000, 8900
# The demo must not use a developer's own database, broker or site.
_NOT_INHERITED = ("DATABASE_URL", "CELERY_BROKER_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "DJANGO_SETTINGS_MODULE")


@dataclass(frozen=True)
class Wishes:
    """The options of the command line. `sales_run`: the arguments of that module; empty: it does not run."""

    home: Path
    may_take_next_home: bool
    starts_fresh: bool
    sales_run: tuple[str, ...] = ()
    ends_after_sales: bool = False
    opens_browser: bool = True


def perform(wishes: Wishes) -> int:
    """Run a demo until its sales are done or it is stopped; returns the exit code.

    Raises `HomeInUseError` if another demo uses the given folder.
    """
    home = Home.claim(wishes.home, or_next=wishes.may_take_next_home)
    if wishes.starts_fresh:
        home.clear()
    site, phone = Port.claim(SITE_PORT), Port.claim(PHONE_PORT)
    stage = _Stage(wishes, home, site.number, phone.number)
    try:
        with Supervisor(ROOT, stage.environment(), stage.log) as supervisor:
            try:
                code = stage.perform(supervisor)
            except StoppedError:
                stage.say("\nStopping: the worker finishes what it is sending …")
                raise
    except StartError as error:
        print(f"\nThe demo could not start: {error}\n\nThe complete log: {home.log}", file=sys.stderr)
        code = 1
    except StoppedError as error:
        code = 128 + error.signal_number if wishes.ends_after_sales or error.signal_number != signal.SIGINT else 0
        stage.say("Stopped; nothing is left running. `--fresh` starts from scratch next time.")
    finally:
        stage.log.close()
    return code


class _Stage:
    def __init__(self, wishes: Wishes, home: Home, site_port: int, phone_port: int) -> None:
        self.wishes = wishes
        self.home = home
        self.site_port, self.phone_port = site_port, phone_port
        self.site_url = f"http://{HOST}:{site_port}"
        self.phone_url = f"http://{HOST}:{phone_port}"
        self.log = Log(home.log, is_shown=False)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        return {
            **kept,
            "DJANGO_SETTINGS_MODULE": "example_project.demo.settings",
            "SHOP_HOME": str(self.home.folder),
            "PUBLIC_URL": self.site_url,
            "SANDBOX_URL": self.phone_url,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "DJANGO_RUNSERVER_HIDE_WARNING": "true",
        }

    def perform(self, supervisor: Supervisor) -> int:
        self.say("Starting a shop, its Celery worker and a simulated phone; nothing leaves this machine …")
        self._say_what_was_taken()
        phone, site, worker, beat = self._parts(supervisor)
        supervisor.start(phone)
        supervisor.run_step("setup", _python("-m", "example_project.demo.preparation"))
        supervisor.start(site, worker, beat)
        self._say_where_everything_is(supervisor)
        if self.wishes.opens_browser:
            webbrowser.open(f"{self.site_url}/demo/")
        if self.wishes.sales_run:
            code = supervisor.run_beside(_python("-m", "example_project.demo.sales_run", *self.wishes.sales_run))
            if self.wishes.ends_after_sales:
                return code
        self.log.is_shown = True
        supervisor.run_until_stopped()
        return 0

    def say(self, text: str) -> None:
        print(text, flush=True)

    def _parts(self, supervisor: Supervisor) -> tuple[Part, Part, Part, Part]:
        def link_phone() -> None:
            # The phone loses its webhook when it is restarted.
            supervisor.run_step("setup", _python("-m", "example_project.demo.preparation", "--phone-only"))

        celery = _python("-m", "celery", "--quiet", "-A", "example_project")
        # Threads instead of prefork: a single process, which can be killed as a whole and takes half the memory.
        worker = (*celery, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "INFO")
        phone = ("--linked", "--license", f"sandbox:{api_key_of(self.home.folder)}")
        alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        return (
            Part(
                "phone",
                _python("-m", "django_kpwa.sandbox", *phone, "--host", HOST, "--port", str(self.phone_port)),
                port=self.phone_port,
                after_restart=link_phone,
            ),
            Part(
                "site",
                _python("manage.py", "runserver", "--noreload", f"{HOST}:{self.site_port}"),
                port=self.site_port,
            ),
            Part("worker", (*worker, *alone), ready_words=" ready."),
            Part("beat", (*celery, "beat", "--pidfile", "", "--loglevel", "INFO"), ready_words="beat: Starting"),
        )

    def _say_what_was_taken(self) -> None:
        for what, wanted, port in (("shop", SITE_PORT, self.site_port), ("phone", PHONE_PORT, self.phone_port)):
            if port != wanted:
                self.say(f"Port {wanted} is taken; the {what} uses {port}.")
        if self.home.folder != self.wishes.home:
            self.say(f"Another demo uses {_shown(self.wishes.home)}; this one uses {_shown(self.home.folder)}.")

    def _say_where_everything_is(self, supervisor: Supervisor) -> None:
        pids = " · ".join(f"{name} {pid}" for name, pid in supervisor.pids().items())
        addresses = [
            "",
            f"  Till and phone   {self.site_url}/demo/",
            f"  Admin            {self.site_url}/admin/    (user {USERNAME}, password {PASSWORD})",
            f"  Phone alone      {self.phone_url}/",
        ]
        self.say(
            "\n".join(
                [
                    *([] if self.wishes.ends_after_sales else addresses),
                    "",
                    f"  Process ids      {pids}    (kill one: it comes back)",
                    f"  State and log    {_shown(self.home.folder)}",
                    "",
                    *([] if self.wishes.ends_after_sales else ["Ctrl-C stops everything.", ""]),
                ]
            )
        )


def can_open_browser() -> bool:
    """True if there is a screen. Without one, Python would start a text browser in the middle of the log."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
