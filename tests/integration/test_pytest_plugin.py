"""`django_kpwa.pytest_plugin`, loaded by pytest in a site whose tests never mention the package.

Each run is a process of its own, in the folder of a small site (`tests/sites/own`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.processes import ROOT

pytestmark = [
    pytest.mark.waits,
    pytest.mark.timeout(600),  # starts processes on a machine that may be busy
]

SITE = ROOT / "tests/sites/own"
# Without the variables that configure or measure the tests of the repository itself.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO", "COV"))}


@pytest.fixture
def run(tmp_path):
    """Run pytest in the site. All tests must pass. Return the number of tests and what they reached outside."""
    watched = tmp_path / "watched"

    def run_pytest(*arguments, **environment):
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=SITE,
            env={
                **ENVIRONMENT,
                "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}",
                "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
                "WATCHED": str(watched),
                **environment,
            },
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (passed,) = re.findall(r"(\d+) passed", ran.stdout)
        return int(passed), watched.read_text().splitlines()

    return run_pytest


def test_tests_that_never_mention_the_package_send_nothing_and_reach_nobody(run):
    assert run("shop/sales_tests.py") == (20, [])


def test_they_would_be_seen_if_they_did(run):
    passed, reached = run("shop/sales_tests.py", REACHES_OUTSIDE="yes")
    assert passed == 20
    assert any("socket.connect" in line and "127.0.0.1" in line for line in reached)


def test_the_fixtures_keep_tests_apart_in_several_processes(run):
    passed, _ = run("-n", "2", "shop/receipt_tests.py")
    assert passed > 10


def test_the_fixtures_keep_tests_apart_reach_nobody_and_stand_a_database_that_is_used_again(run):
    # The first run creates its database as every run does, and leaves it to the second.
    passed, reached = run("--reuse-db", "shop/receipt_tests.py")
    assert passed > 10
    assert reached == []
    assert run("--reuse-db", "shop/receipt_tests.py") == (passed, reached)


def test_pytest_runs_without_django_as_if_the_plugin_were_not_there(tmp_path):
    (tmp_path / "test_arithmetic.py").write_text(
        "import sys\n\n\ndef test_nothing_of_django_is_imported():\n"
        "    assert 'django_kpwa.pytest_plugin' in sys.modules\n    assert 'django.db' not in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:cacheprovider", "test_arithmetic.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("fixture", ["kpwa_outbox", "kpwa_license", "kpwa_deliver", "kpwa_webhook"])
def test_the_fixtures_say_what_they_need_where_it_is_not_installed(tmp_path, fixture):
    (tmp_path / "test_shop.py").write_text(f"def test_a_sale({fixture}):\n    pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:xdist"],
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "The fixtures of django-kpwa need pytest-django: pip install pytest-django" in ran.stdout
    assert "'db' not found" not in ran.stdout
