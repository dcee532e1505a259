"""A whole site in a separate process, with its own database and its own settings.

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
    """A site with the data of tests/sites/shop.py. It serves static files. `kpwa`: changes to the tests' `KPWA`."""

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
        # The server's own address: the advice of a check may contain another one.
        self.url = re.search(r"development server at (http://127\.0\.0\.1:\d+)", output)[1]
        self.pages: list[dict] = json.loads(filled.stdout)
        """Every page of the app, with its `name` and its full `url` on this server."""
        for page in self.pages:
            page["url"] = self.url + page["url"]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.close()
        self._folder.cleanup()

    def page(self, name: str) -> str:
        """Return the URL of the first page with this name."""
        return next(page["url"] for page in self.pages if page["name"] == name)

    def shown(self, client: requests.Session) -> Iterator[tuple[dict, str]]:
        """Yield the pages that a GET shows to `client`, each with its text. Fails if a URL returns an error."""
        for page in self.pages:
            answer = client.get(page["url"], allow_redirects=False, timeout=30)
            # The monitoring URLs answer 404 without their secret.
            expected = (404,) if page["name"].startswith(("kpwa:health/", "kpwa:metrics/")) else (200, 302, 403, 405)
            assert answer.status_code in expected, f"{page}: {answer.status_code}\n{self.process.output[-3000:]}"
            if answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html"):
                yield page, answer.text

    def client(self) -> requests.Session:
        """Return an HTTP session with a logged-in superuser. `X-CSRFToken` is set for POST requests."""
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
