"""Tables that a site prefixes by `class_prepared` are migrated, and every hand-written statement finds them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import servers
from tests.processes import ROOT


def test_a_site_whose_tables_have_a_prefix_migrates_sends_and_processes():
    servers.start_database()  # maybe no test of this process has started it yet
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "DJANGO_SETTINGS_MODULE": "tests.sites.table_prefix"}
    command = [sys.executable, "-m", "django", "test", "--noinput", "tests.sites.prefixed_tables"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Ran 4 tests" in ran.stderr
