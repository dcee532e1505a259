"""Licenses over the years: saved by several processes, deactivated, activated again, and deleted."""

from __future__ import annotations

import pytest
from django.core.management import CommandError

from django_kpwa.cli.licenses import _ACTIONS
from django_kpwa.models import License, OutboundMessage
from django_kpwa.outbox import cancel, send_message
from django_kpwa.store import store
from django_kpwa.testing import deliver
from tests.cli import kpwa, kpwa_json

NUMBER = "0812 3456 7890"
OLD, NEW = "test-api-key-0001", "the-new-key-0000001"


def add(name, **values):
    license_ = License(name=name, **values)
    license_.set_api_key(f"{name}-key-0123456789")
    license_.save()
    return license_


class TestSavedFromAnOlderReading:
    """Two processes have read one license. The second one to save must not undo what the first one saved."""

    @pytest.fixture
    def stale(self, license_):
        return License.objects.get()

    @pytest.mark.parametrize(
        "save", [License.save, lambda row: row.save(using="default"), lambda row: row.save(force_update=True)]
    )
    def test_a_new_key_stays(self, license_, stale, save):
        license_.set_api_key(NEW)
        license_.save()
        stale.name = "Toko Baru"
        save(stale)
        stored = License.objects.get()
        assert (stored.name, stored.get_api_key().reveal()) == ("Toko Baru", NEW)
        assert (stored.api_key_version, stored.api_key_hint) == (2, "0001")

    def test_whatever_else_was_changed_stays_too(self, license_, stale):
        License.objects.update(is_active=False, pace_min_seconds=3, pace_max_seconds=9)
        license_.refresh_from_db()
        license_.archive()
        stale.name = "Toko Baru"
        stale.save()
        stored = License.objects.get()
        assert (stored.is_active, stored.pace_min_seconds, stored.archived_at is None) == (False, 3, False)
        assert not stored.is_default

    def test_one_that_was_the_default_takes_nobodys_place(self, license_, stale):
        other = add("Cabang", is_default=True)
        stale.name = "Toko Baru"
        stale.save()
        assert list(License.objects.filter(is_default=True)) == [other]

    def test_a_new_key_of_the_older_reading_is_stored_with_its_base_url(self, license_, stale):
        license_.base_url = "http://127.0.0.1:8900/backend"
        license_.set_api_key("sandbox-key-0000001")
        license_.save()
        stale.set_api_key(NEW)
        stale.save()
        stored = License.objects.get()
        assert (stored.base_url, stored.get_api_key().reveal(), stored.api_key_version) == ("", NEW, 3)

    def test_what_was_changed_and_not_yet_saved_is_saved_later(self, license_, stale):
        stale.name, stale.is_active = "Toko Baru", False
        stale.save(update_fields=["name"])
        assert License.objects.get().is_active
        stale.save()
        assert not License.objects.get().is_active

    def test_a_field_that_was_not_read_is_written_where_it_is_set(self, license_):
        License.objects.update(pace_min_seconds=3, pace_max_seconds=9)
        read = License.objects.only("name").get()
        read.pace_min_seconds = read.pace_max_seconds = None
        read.save()
        assert License.objects.values_list("pace_min_seconds", "pace_max_seconds").get() == (None, None)
        assert License.objects.get().get_api_key().reveal() == OLD

    def test_a_copy_is_stored_whole(self, license_):
        copy = License.objects.get()
        copy.pk, copy.name, copy.uuid = None, "Cabang", License().uuid
        copy.is_default = False
        copy.save()
        assert License.objects.get(name="Cabang").get_api_key().reveal() == OLD

    def test_refreshed_it_writes_what_is_changed_from_then_on(self, license_, stale):
        License.objects.update(name="Toko Baru")
        stale.refresh_from_db()
        stale.name = "Toko Utama"
        stale.save()
        assert License.objects.get().name == "Toko Utama"


class TestCommands:
    def test_a_default_is_chosen(self, license_):
        other = add("Cabang")
        assert kpwa("licenses", "default", "Cabang") == (0, "Cabang now sends the messages that name no license.\n")
        assert list(License.objects.filter(is_default=True)) == [other]
        assert [(row["name"], row["is_default"]) for row in kpwa_json("licenses")[1]] == [
            ("Cabang", True), ("Toko Utama", False),
        ]  # fmt: skip

    def test_one_that_is_not_active_is_not_made_the_default(self, license_):
        add("Cabang", is_active=False)
        code, told = kpwa("licenses", "default", "Cabang")
        assert (code, "manage.py kpwa licenses activate Cabang" in told) == (1, True)
        assert License.objects.get(is_default=True) == license_

    def test_the_setting_that_goes_before_the_default_is_named(self, license_, settings):
        add("Cabang")
        settings.KPWA = {**settings.KPWA, "DEFAULT_LICENSE": "Toko Utama"}
        assert (
            "KPWA['DEFAULT_LICENSE'] takes precedence: it names Toko Utama." in kpwa("licenses", "default", "Cabang")[1]
        )

    def test_one_that_sent_is_put_away_and_taken_back_and_not_deleted(self, license_):
        send_message(NUMBER, "x")
        assert kpwa_json("licenses", "delete", "Toko Utama")[0] == 1
        code, told = kpwa("licenses", "archive", "Toko Utama")
        assert (code, 'manage.py kpwa licenses deactivate "Toko Utama"' in told) == (1, True)
        assert kpwa("licenses", "deactivate", "Toko Utama")[0] == 0
        assert deliver() == []
        assert kpwa("licenses", "archive", "Toko Utama")[0] == 0
        add("Cabang")
        rows = kpwa_json("licenses")[1]
        assert [(row["name"], bool(row["archived_at"])) for row in rows] == [("Cabang", False), ("Toko Utama", True)]
        assert "archived" in kpwa("licenses")[1]
        code, told = kpwa("licenses", "activate", "Toko Utama")
        assert (code, 'licenses take-back "Toko Utama"' in told) == (1, True)
        assert kpwa("licenses", "take-back", "Toko Utama")[0] == 0
        assert kpwa("licenses", "activate", "Toko Utama") == (0, "Toko Utama is active.\n")
        assert [sent.text for sent in deliver()] == ["x"]

    def test_one_that_never_sent_is_deleted(self, license_):
        add("Cabang")
        assert kpwa("licenses", "delete", "Cabang") == (0, "Deleted Cabang.\n")
        assert list(License.objects.all()) == [license_]

    @pytest.mark.parametrize("action", ["delete", "deactivate"])
    def test_where_the_default_goes_and_several_stay_it_says_what_waits(self, license_, action):
        add("Cabang")
        assert "waits" not in kpwa("licenses", "deactivate", "Cabang")[1]
        kpwa("licenses", "activate", "Cabang")
        add("Pusat")
        told = kpwa("licenses", action, "Toko Utama")[1]
        assert "Messages that name no license wait: several licenses are active, and none is the default." in told

    @pytest.mark.parametrize("action", [*_ACTIONS, "confirm-number"])
    def test_one_that_does_not_exist_is_wrong_usage(self, license_, action):
        with pytest.raises(CommandError, match="There is no license 'Pusat'") as raised:
            kpwa("licenses", action, "Pusat", stdin="a-key-0123456789\n")
        assert raised.value.returncode == 2

    def test_doctor_names_the_command_that_activates(self, license_):
        kpwa("licenses", "deactivate", "Toko Utama")
        assert 'manage.py kpwa licenses activate "Toko Utama"' in kpwa("doctor")[1]


class TestADeletedLicense:
    @pytest.fixture
    def lost(self, license_):
        """A message whose license was deleted by another transaction while the one that stored the message was open."""
        message = send_message(NUMBER, "x", license=license_)
        OutboundMessage.objects.filter(pk=message.pk).update(license_id=license_.pk + 1000)
        return OutboundMessage.objects.get()

    def test_doctor_and_a_round_tell_of_its_messages(self, lost):
        assert list(store().queued_without_their_license()) == [lost]
        found = [f for f in kpwa_json("doctor")[1]["findings"] if f["subject"] == "license is gone"]
        assert f"manage.py kpwa messages cancel {lost.pk}" in found[0]["words"]
        assert "1 without a license: their license was deleted" in kpwa("dispatch", "-v", "0")[1]
        assert deliver() == []

    def test_they_are_listed_and_can_be_cancelled(self, lost):
        assert "deleted" in kpwa("messages")[1]
        assert kpwa("messages", "cancel", str(lost.pk))[0] == 0
        assert not store().queued_without_their_license().exists()

    def test_the_admin_shows_them(self, lost, admin_client):
        for page in ("", f"{lost.pk}/change/", "?q=081234567890"):
            assert admin_client.get(f"/admin/django_kpwa/outboundmessage/{page}").status_code == 200
        assert admin_client.get("/admin/django_kpwa/dashboard/").status_code == 200
        assert cancel(lost)
