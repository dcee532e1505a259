"""Error messages for somebody who forgot a step of the installation: each names that step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
SECRET_KEY = "only-for-this-test"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes"]
DATABASES = {{
    name: {{"ENGINE": "django.db.backends.sqlite3", "NAME": r"{folder}/" + name}} for name in ("default", "whatsapp")
}}
"""
WITH_THE_APP = 'INSTALLED_APPS += ["django_kpwa"]\n'
WITH_A_ROUTER = """
class Router:
    def db_for_write(self, model, **hints):
        return "whatsapp" if model._meta.app_label == "django_kpwa" else None

    db_for_read = db_for_write


DATABASE_ROUTERS = [Router()]
"""


@pytest.fixture
def site(tmp_path):
    """Return a function that writes the settings of a new site.

    It returns another function, which runs a Python command there and returns what that prints.
    """

    def write(*parts: str):
        (tmp_path / "newcomer.py").write_text(SETTINGS.format(folder=tmp_path) + "".join(parts))
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "newcomer", "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
        command = {"cwd": tmp_path, "env": environment, "text": True, "stdout": subprocess.PIPE}

        def run(*arguments: str, until: str = "") -> str:
            with subprocess.Popen((sys.executable, *arguments), stderr=subprocess.STDOUT, **command) as process:
                if not until:
                    return process.communicate(timeout=60)[0]
                printed = ""
                for line in process.stdout:
                    printed += line
                    if until in line:
                        break
                process.terminate()
                return printed

        return run

    return write


@pytest.mark.parametrize(
    "module", ["outbox", "receipts", "urls", "models", "testing", "signals; from django_kpwa.webhooks import Parser"]
)
def test_the_app_is_not_among_the_installed_ones(site, module):
    printed = site()("-c", f"import django; django.setup(); import django_kpwa.{module}")
    assert "add 'django_kpwa' to INSTALLED_APPS, then run `manage.py migrate`" in printed.splitlines()[-1]


@pytest.mark.parametrize("command", ["doctor", "dispatch", "licenses", "purge"])
def test_the_tables_are_not_there(site, command):
    assert "manage.py migrate" in site(WITH_THE_APP)("-m", "django", "kpwa", command)


def test_a_process_that_goes_on_until_the_tables_are_there_says_how_to_make_them(site):
    printed = site(WITH_THE_APP)("-m", "django", "kpwa", "run", until="all tables")
    assert "Run `manage.py migrate`. This goes on by itself then." in printed


@pytest.mark.parametrize("command", ["doctor", "dispatch", "run"])
def test_the_tables_belong_into_a_database_of_their_own(site, command):
    run = site(WITH_THE_APP, WITH_A_ROUTER)
    printed = run("-m", "django", "kpwa", command, until="migrate" if command == "run" else "")
    assert "manage.py migrate --database whatsapp" in printed
