"""`kpwa send`, `send-group` and `messages`: they fill the outbox, and decide about the messages in it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.db import connections

from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError
from django_kpwa.models import OutboundMessage, Status
from django_kpwa.testing import create_license, deliver, fail_next, outbox
from tests.cli import kpwa, kpwa_json
from tests.processes import wait_until

NUMBER = "0812 3456 7890"


@pytest.fixture
def in_doubt(license_):
    """A message whose outcome nobody knows."""
    fail_next(GatewayTimeoutError("no answer in time"))
    code, told = kpwa_json("send", NUMBER, "Halo")
    assert code == 0
    deliver()
    message = OutboundMessage.objects.get(pk=told["id"])
    assert message.status == Status.UNKNOWN
    return message


class TestSend:
    def test_a_message_is_queued_and_its_number_masked(self, license_):
        code, told = kpwa("send", NUMBER, "Halo")
        assert code == 0
        message = OutboundMessage.objects.get()
        assert f"Message {message.uuid} to 62812•••••890: queued" in told
        assert "6281234567890" not in told

    def test_without_a_broker_it_says_what_sends_it(self, license_):
        assert "`manage.py kpwa run` or `manage.py kpwa dispatch` sends it" in kpwa("send", NUMBER, "Halo")[1]

    def test_the_text_can_come_from_standard_input(self, license_):
        kpwa("send", NUMBER, "-", stdin="Baris 1\nBaris 2\n")
        assert OutboundMessage.objects.get().text == "Baris 1\nBaris 2"

    def test_an_image_needs_no_text(self, license_):
        kpwa("send", NUMBER, "--image", "https://shop.example/a.png")
        assert OutboundMessage.objects.get().image_url == "https://shop.example/a.png"

    def test_the_same_key_again_sends_nothing(self, license_):
        first, second = (kpwa_json("send", NUMBER, "Halo", "--key", "order-1")[1] for _ in range(2))
        assert first["uuid"] == second["uuid"]
        assert len(deliver()) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("budi", "Halo"), "is not a phone number: "),
            ((NUMBER,), "^This cannot be sent: it has neither a visible text"),
            ((NUMBER, "Halo", "--image", "ftp://x/a.png"), "^This cannot be sent: its image_url begins with 'ftp'"),
        ],
        ids=str,
    )
    def test_what_cannot_be_sent_is_wrong_usage_and_stores_nothing(self, license_, arguments, words):
        with pytest.raises(CommandError, match=words) as raised:
            kpwa("send", *arguments)
        assert raised.value.returncode == 2
        assert not OutboundMessage.objects.exists()

    def test_a_group_is_named_as_whatsapp_shows_it(self, license_):
        assert kpwa("send-group", "Dapur", "Pesanan baru")[0] == 0
        [sent] = deliver()
        assert (sent.group_name, sent.text) == ("Dapur", "Pesanan baru")


@pytest.mark.django_db(transaction=True)
class TestWait:
    @pytest.fixture
    def driven(self, license_):
        """Another thread sends due messages, as a worker would."""

        def drive():
            try:
                wait_until(lambda: OutboundMessage.objects.filter(status=Status.QUEUED).exists())
                deliver()
            finally:
                connections.close_all()

        thread = threading.Thread(target=drive)
        thread.start()
        yield
        thread.join()

    def test_it_ends_with_0_once_the_message_was_sent(self, driven):
        code, told = kpwa_json("send", NUMBER, "Halo", "--wait")
        assert (code, told["status"]) == (0, "sent")

    def test_it_ends_with_1_and_the_reason_where_it_failed(self, driven):
        fail_next(BadRequestError("bad request", status_code=400, words="nomor ditolak"))
        code, told = kpwa("send", NUMBER, "Halo", "--wait")
        assert code == 1
        assert "failed (refused: nomor ditolak)" in told
        assert "It did not go out. Nothing was sent. Usually the number is wrong" in told
        assert f"manage.py kpwa messages resend {OutboundMessage.objects.get().pk}" in told

    def test_the_list_tells_why_it_failed_on_one_line(self, driven):
        fail_next(BadRequestError("bad request", status_code=400, words="ditolak.", errors=("nomor\nsalah " * 20,)))
        kpwa("send", NUMBER, "Halo", "--wait")
        row = kpwa("messages")[1].splitlines()[1]
        assert "failed  refused: ditolak: nomor salah nomor" in row
        assert row.endswith("…")

    def test_it_gives_up_after_its_timeout_and_says_what_to_do(self, license_):
        code, told = kpwa("send", NUMBER, "Halo", "--wait", "--timeout", "0.3")
        assert code == 1
        assert "It is still waiting." in told
        assert "kpwa dispatch" in told

    def test_a_timeout_that_is_no_duration_is_wrong_usage(self, license_):
        with pytest.raises(CommandError, match="is not a number of seconds above 0"):
            kpwa("send", NUMBER, "Halo", "--wait", "--timeout", "soon")


class TestList:
    @pytest.fixture
    def three(self, license_):
        kpwa("send", NUMBER, "Satu")
        deliver()
        kpwa("send", "0813 1111 2222", "Dua")
        kpwa("send-group", "Dapur", "Tiga")

    def texts(self, *filters):
        code, rows = kpwa_json("messages", *filters)
        assert code == 0
        return [OutboundMessage.objects.get(uuid=row["uuid"]).text for row in rows]

    def test_it_shows_the_newest_first_and_no_whole_number(self, three):
        assert self.texts() == ["Tiga", "Dua", "Satu"]
        told = kpwa("messages")[1]
        assert "62812•••••890" in told
        assert "6281234567890" not in told
        assert "Satu" not in told

    def test_it_filters(self, three, license_):
        assert self.texts("--status", "sent") == ["Satu"]
        assert self.texts("--status", "sent", "--status", "queued") == ["Tiga", "Dua", "Satu"]
        assert self.texts("--to", "+62 813 1111 2222") == ["Dua"]
        assert self.texts("--to", "Dapur") == ["Tiga"]
        assert self.texts("--limit", "1") == ["Tiga"]
        create_license("Cabang")
        assert self.texts("--license", "Cabang") == []
        assert self.texts("--license", "Toko Utama", "--limit", "1") == ["Tiga"]

    def test_since_takes_a_duration_a_date_or_a_time(self, three):
        OutboundMessage.objects.filter(text="Satu").update(
            created_at=OutboundMessage.objects.get(text="Satu").created_at - timedelta(hours=3)
        )
        assert self.texts("--since", "2h") == ["Tiga", "Dua"]
        assert self.texts("--since", "2016-11-05") == ["Tiga", "Dua", "Satu"]
        assert self.texts("--since", "2999-01-01 09:30") == []
        for wrong in ("yesterday", "2016-13-01", "2016-11-05 25:00"):
            with pytest.raises(CommandError, match="neither a duration like 30m, 2h or 3d"):
                kpwa("messages", "--since", wrong)

    def test_an_unknown_license_or_an_impossible_limit_is_wrong_usage(self, three):
        with pytest.raises(CommandError, match="There is no license 'Pusat'"):
            kpwa("messages", "--license", "Pusat")
        with pytest.raises(CommandError, match="not a whole number above 0"):
            kpwa("messages", "--limit", "0")


class TestDecisions:
    def test_resend_queues_again_by_number_or_public_id(self, in_doubt):
        assert kpwa("messages", "resend", str(in_doubt.pk)) == (0, f"{in_doubt.pk}: queued again.\n")
        assert kpwa("messages", "cancel", str(in_doubt.uuid))[0] == 0
        assert kpwa("messages", "resend", str(in_doubt.uuid))[0] == 0
        assert len(deliver()) == 1

    def test_cancel_withdraws_what_waits_and_nothing_else(self, license_):
        uuid = kpwa_json("send", NUMBER, "Halo")[1]["uuid"]
        code, [outcome] = kpwa_json("messages", "cancel", uuid)
        assert (code, outcome["done"], outcome["status"]) == (0, True, "cancelled")
        assert deliver() == []
        assert kpwa("messages", "cancel", uuid) == (1, f"{uuid}: left unchanged, because it is cancelled.\n")

    def test_mark_sent_settles_doubt(self, in_doubt):
        assert kpwa("messages", "mark-sent", str(in_doubt.pk))[0] == 0
        in_doubt.refresh_from_db()
        assert in_doubt.status == Status.SENT
        assert outbox == []

    def test_dismiss_takes_it_off_the_list_and_leaves_it_in_doubt(self, in_doubt):
        assert kpwa("messages", "dismiss", str(in_doubt.pk))[0] == 0
        assert not OutboundMessage.objects.undecided().exists()
        assert OutboundMessage.objects.get().status == Status.UNKNOWN

    def test_one_that_does_not_exist_is_a_no_and_the_others_are_done(self, in_doubt):
        code, told = kpwa("messages", "resend", "999999999", "nonsense", str(in_doubt.pk))
        assert code == 1
        assert told.count("there is no such message") == 2
        assert f"{in_doubt.pk}: queued again." in told
