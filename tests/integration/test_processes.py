"""The helpers of tests/processes.py, which other test suites rely on."""

from __future__ import annotations

import pytest

from django_kpwa.models import OutboundMessage, Status
from django_kpwa.outbox import send_message
from tests.processes import run_manage, start_celery_beat, start_celery_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_process_sees_the_test_database(license_):
    code = "from django_kpwa.models import License; print(License.objects.get().name)"
    assert run_manage("shell", "--no-imports", "-c", code).stdout.strip() == "Toko Utama"


def test_beat_and_a_worker_over_files_carry_a_message(license_, tmp_path):
    site = {"broker_folder": tmp_path}
    message = send_message("0812 3456 7890", "Halo", license=license_)
    with (
        start_celery_worker("filesystem-atomic://localhost", pool="threads", **site),
        start_celery_beat("filesystem-atomic://localhost", schedule_file=tmp_path / "beat", **site),
    ):
        wait_until(lambda: OutboundMessage.objects.get(pk=message.pk).status == Status.SENT)
