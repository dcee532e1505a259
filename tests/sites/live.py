"""A whole site as a process of its own, on a database of its own, under other settings than the tests'.

with LiveSite("tests.sites.unfold") as site:
    site.url, site.pages, site.client()
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import requests

from tests.processes import ROOT, RunningProcess

USERNAME = PASSWORD = "admin"


class LiveSite:
    """Filled with tests/sites/shop.py, its static files served. `kpwa`: what differs from the tests' `KPWA`."""

    def __init__(self, settings: str, kpwa: dict | None = None) -> None:
        self._settings = settings
        self._kpwa = kpwa or {}

    def __enter__(self) -> LiveSite:
        self._folder = tempfile.TemporaryDirectory()
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": self._settings,
            "DATABASE_URL": f"sqlite:///{Path(self._folder.name) / 'site.sqlite3'}",
            "CELERY_BROKER_URL": "",
            "KPWA_TEST_SETTINGS": json.dumps(self._kpwa),
            "PYTHONUNBUFFERED": "1",
        }
        filled = subprocess.run(
            [sys.executable, "-m", "tests.sites"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert filled.returncode == 0, filled.stderr
        command = [sys.executable, "manage.py", "runserver", "--noreload", "--nostatic", "127.0.0.1:0"]
        self.process = RunningProcess(command, environment)
        output = self.process.wait_for_output("Quit the server")
        # Not the one that a check advises.
        self.url = re.search(r"development server at (http://127\.0\.0\.1:\d+)", output)[1]
        self.pages: list[dict] = json.loads(filled.stdout)
        """Every address of the app: `name` and `url`, with this server's address before it."""
        for page in self.pages:
            page["url"] = self.url + page["url"]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.close()
        self._folder.cleanup()

    def page(self, name: str) -> str:
        """The address of the first page called `name`."""
        return next(page["url"] for page in self.pages if page["name"] == name)

    def shown(self, client: requests.Session) -> Iterator[tuple[dict, str]]:
        """The pages that a GET shows to `client`, each with its text. Fails for an address that breaks."""
        for page in self.pages:
            answer = client.get(page["url"], allow_redirects=False, timeout=30)
            # Without its secret, an address of the monitoring is none.
            expected = (404,) if page["name"].startswith(("kpwa:health/", "kpwa:metrics/")) else (200, 302, 403, 405)
            assert answer.status_code in expected, f"{page}: {answer.status_code}\n{self.process.output[-3000:]}"
            if answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html"):
                yield page, answer.text

    def client(self) -> requests.Session:
        """Somebody who is logged in and may do everything; `X-CSRFToken` is set for their posts."""
        session = requests.Session()
        session.trust_env = False
        login = f"{self.page('index')}login/"
        session.get(login, timeout=10).raise_for_status()
        self._give_token(session)
        form = {"username": USERNAME, "password": PASSWORD}
        answer = session.post(login, form, allow_redirects=False, timeout=30)
        assert answer.status_code == 302, answer.text
        self._give_token(session)
        return session

    def _give_token(self, session: requests.Session) -> None:
        session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
