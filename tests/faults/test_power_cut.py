"""SQLite and a power cut: a message's claim and record are on the disk before anything follows from them.

strace watches a process while it sends one message: every write to the write-ahead log, every sync of it, the POST, and
the answer. A power cut loses whatever was not synced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.processes import ROOT

from .harness import KEY

PREPARE = f"""
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django_kpwa.models import Lane, License
from django_kpwa.outbox import send_message
license_ = License(name="Toko")
license_.set_api_key({KEY!r})
license_.save()
Lane.objects.create(license=license_, session_status="connected")
send_message("081234567890", "struk")
"""
# The process ends as in a power cut, because an orderly end would sync everything.
SEND = """
import os
from django_kpwa.dispatch import drive
from django_kpwa.models import License
assert drive(License.objects.get().pk).attempts == 1
os._exit(0)
"""
RUN = """
import django
from tests import settings
settings.DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}"
django.setup()
{code}
"""
CALL = re.compile(r'^\d+\s+(?P<name>\w+)\(\d+<(?P<file>[^>]*)>(?:, "(?P<start>[^"]*))?')


def calls(trace):
    """The actions of the process, in order: `write` and `sync` of the log, `post`, `answer`."""
    for line in trace.splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        name, file, start = found["name"], found["file"], found["start"] or ""
        if file.endswith("-wal"):
            yield "sync" if name in ("fsync", "fdatasync") else "write"
        elif name in ("sendto", "write") and start.startswith("POST "):
            yield "post"
        elif name in ("recvfrom", "read") and start.startswith("HTTP/1"):
            yield "answer"


def unsynced(steps):
    """The number of writes of the log that were not synced after those steps."""
    writes = 0
    for step in steps:
        writes = 0 if step == "sync" else writes + (step == "write")
    return writes


@pytest.mark.parametrize(("synchronous", "is_safe"), [("FULL", True), ("NORMAL", False)])
def test_claim_and_record_are_on_the_disk_before_the_post_and_after_the_answer(
    running_phone, tmp_path, synchronous, is_safe
):
    strace = shutil.which("strace")
    assert strace, "This test watches a process by strace, which is not installed (Debian: apt-get install strace)."
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'outbox.sqlite3'}",
        "CELERY_BROKER_URL": "",
        "KPWA_TEST_SETTINGS": json.dumps(
            {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [running_phone.base_url]}
        ),
    }

    def run(code, *before):
        command = [*before, sys.executable, "-c", RUN.format(synchronous=synchronous, code=code)]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr

    run(PREPARE)
    trace = tmp_path / "trace"
    run(SEND, strace, "-f", "-y", "-o", str(trace), "-e", "trace=pwrite64,write,fsync,fdatasync,sendto,recvfrom,read")
    steps = list(calls(trace.read_text()))
    post, answer = steps.index("post"), steps.index("answer")
    assert "write" in steps[:post]
    assert "write" in steps[answer:]
    assert (unsynced(steps[:post]) == 0, unsynced(steps[answer:]) == 0) == (is_safe, is_safe)
