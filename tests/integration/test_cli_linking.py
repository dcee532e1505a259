"""The subcommands that call the gateway, over HTTP with the sandbox behind it."""

from __future__ import annotations

import re
import stat

import pytest
from django.core.management import CommandError

from django_kpwa.cli import linking
from django_kpwa.models import License
from tests.cli import kpwa, kpwa_json
from tests.processes import run_manage, start_manage
from tests.sandbox import SandboxProcess

HTTP = "django_kpwa.gateway.http.HttpGateway"
KEY = "sandbox-key-0123456789"


@pytest.fixture(scope="module")
def phone():
    with SandboxProcess("--license", f"Toko Utama:{KEY}", "--unregistered", "081299990000") as sandbox:
        yield sandbox


@pytest.fixture
def shop(db, phone, settings):
    """A license that is linked to the running sandbox."""
    settings.KPWA = {**settings.KPWA, "GATEWAY": HTTP, "BASE_URLS": [phone.base_url]}
    license_ = License(name="Toko Utama")
    license_.set_api_key(KEY)
    license_.save()
    phone.scan()
    return license_


class TestStatus:
    def test_a_linked_license_is_a_yes(self, shop):
        code, told = kpwa_json("status")
        assert code == 0
        assert told["session_status"] == "connected"
        assert (told["waiting"], told["in_doubt"]) == (0, 0)
        assert "Toko Utama: linked" in kpwa("status")[1]

    def test_one_that_waits_for_its_scan_is_a_no_and_its_pause_is_told(self, shop, phone):
        phone.logout()
        code, told = kpwa("status")
        assert code == 1
        assert "not linked: scan the code" in told
        assert "Nothing is sent: WhatsApp is logged out; checked again at" in told

    def test_one_that_is_not_active_says_that_its_messages_are_held(self, shop):
        License.objects.update(is_active=False)
        kpwa("send", "0812 3456 7890", "Halo")
        told = kpwa("status")[1]
        assert "not active: its messages are held" in told
        assert "1 waiting, 0 in doubt." in told

    def test_a_refused_key_is_a_failure_of_the_gateway_and_is_not_shown(self, shop):
        shop.set_api_key("wrong-key-9876543210")
        shop.save()
        with pytest.raises(CommandError) as raised:
            kpwa("status")
        assert raised.value.returncode == 3
        assert "wrong-key" not in str(raised.value)

    def test_the_license_is_chosen_by_name(self, shop):
        other = License(name="Cabang")
        other.set_api_key("another-key-0123456789")
        other.save()
        assert kpwa("status", "--license", "Toko Utama")[0] == 0
        assert kpwa("status")[1].startswith("Toko Utama: ")  # it was added first, so it is the default
        License.objects.update(is_default=False)
        with pytest.raises(CommandError, match="Known: Cabang, Toko Utama") as raised:
            kpwa("status")
        assert raised.value.returncode == 2
        with pytest.raises(CommandError, match=r"There is no license 'Pusat'. Known: Cabang, Toko Utama\."):
            kpwa("status", "--license", "Pusat")

    def test_no_connection_ends_with_3_and_one_line_on_standard_error(self, transactional_db, license_):
        finished = run_manage("kpwa", "status", kpwa={"GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:9/backend"]})
        assert finished.returncode == 3
        assert finished.stdout == ""
        assert len(finished.stderr.strip().splitlines()) == 1


def test_restart_tells_the_status_after_it(shop):
    code, told = kpwa("restart")
    assert code == 0
    assert told.startswith("Restarted.\nToko Utama: ")


class TestCheckNumber:
    def test_a_number_with_whatsapp_is_a_yes_and_is_masked(self, shop):
        assert kpwa("check-number", "0812 3456 7890") == (0, "62812•••••890 has WhatsApp.\n")

    def test_one_without_is_a_no(self, shop):
        code, told = kpwa_json("check-number", "0812 9999 0000")
        assert (code, told["is_registered"]) == (1, False)
        assert kpwa("check-number", "0812 9999 0000")[1].endswith("has no WhatsApp.\n")

    def test_what_cannot_be_a_number_is_wrong_usage_and_masked(self, shop):
        with pytest.raises(CommandError, match="is not a phone number") as raised:
            kpwa("check-number", "08123456789012345")
        assert raised.value.returncode == 2
        assert "08123456789012345" not in str(raised.value)


class TestQr:
    def test_it_is_drawn_until_somebody_scans_it(self, transactional_db, shop, phone):
        phone.logout()
        with start_manage("kpwa", "qr", kpwa={"GATEWAY": HTTP, "BASE_URLS": [phone.base_url]}) as process:
            drawn = process.wait_for_output("Scan it with the phone of Toko Utama")
            assert len(re.findall("^█[█▀▄ ]+$", drawn, re.MULTILINE)) > 10
            phone.scan()
            process.wait_for_output("Toko Utama is linked.")
            assert process.process.wait(10) == 0

    def test_ctrl_c_ends_it_without_a_traceback(self, transactional_db, shop, phone):
        phone.logout()
        with start_manage("kpwa", "qr", kpwa={"GATEWAY": HTTP, "BASE_URLS": [phone.base_url]}) as process:
            process.wait_for_output("Scan it with the phone of Toko Utama")
            assert process.stop(2) == 130
            assert "Traceback" not in process.output

    def test_a_linked_license_needs_none(self, shop):
        assert kpwa("qr") == (0, "Toko Utama is linked.\n")
        assert kpwa_json("qr") == (0, {"license": "Toko Utama", "linked": True})

    def test_the_file_is_a_png_that_its_owner_alone_can_read(self, shop, phone, tmp_path):
        phone.logout()
        file = tmp_path / "qr.png"
        file.write_bytes(b"old")
        file.chmod(0o644)
        code, told = kpwa("qr", "--once", "--output", str(file))
        assert code == 0
        assert str(file) in told
        assert file.read_bytes().startswith(b"\x89PNG")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [file]

    def test_a_file_that_cannot_be_written_is_said_plainly(self, shop, phone, tmp_path):
        phone.logout()
        with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
            kpwa("qr", "--once", "--output", str(tmp_path / "nowhere" / "qr.png"))

    def test_once_as_json_holds_the_image_for_a_script(self, shop, phone):
        phone.logout()
        code, told = kpwa_json("qr", "--once")
        assert (code, told["linked"]) == (0, False)
        assert told["qr"].startswith("data:image/png;base64,")

    def test_a_gateway_that_fails_at_first_is_told(self, shop, phone):
        phone.logout()
        with phone.having_faults(error_500=1), pytest.raises(CommandError) as raised:
            kpwa("qr")
        assert raised.value.returncode == 3

    def test_a_gateway_that_fails_between_two_codes_is_asked_again(self, shop, phone, monkeypatch):
        phone.logout()
        monkeypatch.setattr(linking.QrCodes, "REFRESH_SECONDS", 0.1)
        monkeypatch.setattr(linking.QrCodes, "ASK_SECONDS", 0.02)
        shown = []

        def show(*_):
            shown.append(len(shown))
            # Failures follow the first code. When the second code is shown, somebody scans it.
            if len(shown) == 1:
                phone.set_faults(error_500={"count": 8})
            else:
                phone.scan()

        monkeypatch.setattr(linking.QrCodes, "_show", show)
        try:
            assert kpwa("qr") == (0, "Toko Utama is linked.\n")
        finally:
            phone.clear_faults()
        assert len(shown) == 2
