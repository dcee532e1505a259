"""Which license sends a message that names none, and what waits while no license can be chosen."""

from __future__ import annotations

import io

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_kpwa import dispatch
from django_kpwa.exceptions import InvalidMessageError, LicenseChoiceError
from django_kpwa.models import License, OutboundMessage, Status
from django_kpwa.outbox import Message, cancel, resend, send_message, send_messages
from django_kpwa.store import choosing
from django_kpwa.store.choosing import Unchosen, choose
from django_kpwa.testing import deliver

pytestmark = pytest.mark.django_db
NUMBER = "0812 3456 7890"


def _license(name: str, **values: object) -> License:
    license_ = License(name=name, **values)
    license_.set_api_key(f"{name}-key-0123456789")
    license_.save()
    return license_


@pytest.fixture
def several() -> tuple[License, License]:
    """Two licenses, neither of them the default."""
    first, second = _license("Pusat"), _license("Cabang")
    License.objects.update(is_default=False)
    return first, second


def test_a_second_license_leaves_the_first_one_sending():
    first = _license("Pusat")
    assert send_message(NUMBER, "before").license == first
    second = _license("Cabang")
    assert send_message(NUMBER, "after").license == first
    assert [message.license for message in send_messages([Message(NUMBER, "many")])] == [first]
    second.refresh_from_db()
    assert not second.is_default


def test_a_second_license_leaves_one_that_was_not_marked_as_the_first_sending():
    first = _license("Pusat")
    License.objects.update(is_default=False)
    _license("Cabang")
    assert send_message(NUMBER, "after").license == first


def test_one_that_is_made_the_default_takes_the_place_of_the_other():
    first, second = _license("Pusat"), _license("Cabang")
    second.is_default = True
    second.save()
    assert list(License.objects.filter(is_default=True)) == [second]
    assert send_message(NUMBER, "x").license == second
    first.name = "Pusat lama"
    first.refresh_from_db()
    first.save()
    assert list(License.objects.filter(is_default=True)) == [second]


def test_one_that_is_added_as_the_default_is_the_default():
    first = _license("Pusat")
    second = _license("Cabang", is_default=True)
    assert list(License.objects.filter(is_default=True)) == [second]
    second.refresh_from_db()
    first.refresh_from_db()
    assert (first.is_default, second.is_default) == (False, True)


def test_a_license_that_is_not_active_is_no_candidate():
    first, second = _license("Pusat"), _license("Cabang")
    License.objects.filter(pk=first.pk).update(is_active=False)
    assert send_message(NUMBER, "x").license == second


def test_the_setting_goes_before_the_chosen_default(settings):
    _license("Pusat")
    second = _license("Cabang")
    settings.KPWA = {**settings.KPWA, "DEFAULT_LICENSE": "Cabang"}
    assert send_message(NUMBER, "x").license == second


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("why", list(Unchosen), ids=[why.value for why in Unchosen])
def test_where_it_cannot_be_told_which_license_sends_the_message_is_stored_and_waits(why, many, settings):
    if why != Unchosen.NO_LICENSE:
        _license("Pusat")
        _license("Cabang")
        License.objects.update(is_default=False, is_active=why not in (Unchosen.NONE_ACTIVE, Unchosen.NAMED_INACTIVE))
    named = {Unchosen.NAME_UNKNOWN: "Gudang", Unchosen.NAMED_INACTIVE: "Cabang"}.get(why, "")
    settings.KPWA = {**settings.KPWA, "DEFAULT_LICENSE": named}
    for _ in range(2):  # the second time by its key
        if many:
            (message,) = send_messages([Message(NUMBER, "x", idempotency_key="k")])
        else:
            message = send_message(NUMBER, "x", idempotency_key="k")
        assert (message.license, message.status) == (None, Status.QUEUED)
    assert choose(named).why_not == why
    assert choosing.unassigned().get() == message
    assert dispatch.sweep().license_ids == ()
    message.refresh_from_db()
    assert (message.license, message.status) == (None, Status.QUEUED)


@pytest.mark.parametrize("named", ["", "Cabang"])
def test_it_is_told_in_the_statement_that_stores_it_which_license_sends(several, named, settings):
    if not connection.features.can_return_rows_from_bulk_insert:
        pytest.skip("this database stores messages with the ORM's statements")
    settings.KPWA = {**settings.KPWA, "DEFAULT_LICENSE": named}
    with CaptureQueriesContext(connection) as queries:
        message = send_message(NUMBER, "x")
    # Without a license, the first statement inserts nothing, and the reason is read before the message is stored.
    assert len(queries) == (1 if named else 4), [query["sql"] for query in queries]
    assert message.license == (several[1] if named else None)


def test_two_that_are_both_marked_as_the_default_never_fail_a_checkout(several):
    License.objects.update(is_default=True)
    assert send_message(NUMBER, "x").license == several[0]


def test_what_waits_is_sent_once_a_default_is_chosen(several, django_capture_on_commit_callbacks):
    for text in ("a", "b"):
        send_message(NUMBER, text)
    with django_capture_on_commit_callbacks(execute=True):
        several[1].is_default = True
        several[1].save()
    assert set(OutboundMessage.objects.values_list("license", flat=True)) == {several[1].pk}
    assert len(deliver()) == 2


def test_what_waited_for_the_first_license_of_all_is_sent_by_it(django_capture_on_commit_callbacks):
    message = send_message(NUMBER, "before any")
    with django_capture_on_commit_callbacks(execute=True):
        license_ = _license("Pusat")
    message.refresh_from_db()
    assert message.license == license_


def test_the_sweep_gives_what_waits_to_a_license_however_that_was_chosen(several, settings):
    message = send_message(NUMBER, "x")
    settings.KPWA = {**settings.KPWA, "DEFAULT_LICENSE": "Cabang"}
    assert dispatch.sweep().license_ids == (several[1].pk,)
    message.refresh_from_db()
    assert message.license == several[1]


def test_one_that_was_cancelled_while_it_waited_is_given_to_nobody_and_waits_again_after_a_resend(several):
    message = send_message(NUMBER, "x")
    assert cancel(message)
    License.objects.filter(pk=several[0].pk).update(is_default=True)
    dispatch.sweep()
    message.refresh_from_db()
    assert (message.license, message.status) == (None, Status.CANCELLED)
    assert resend(message)
    dispatch.sweep()
    message.refresh_from_db()
    assert message.license == several[0]


def test_a_license_is_named_by_its_name(several):
    assert send_message(NUMBER, "x", license="Cabang").license == several[1]
    sent = send_messages([Message(NUMBER, "a", license="Cabang"), Message(NUMBER, "b", license="Pusat")])
    assert [message.license for message in sent] == [several[1], several[0]]


@pytest.mark.parametrize("name", ["Toko Utama", ""])
def test_a_name_that_no_license_has_is_refused_where_it_is_written(several, name):
    with pytest.raises(LicenseChoiceError, match="no license called"):
        send_message(NUMBER, "x", license=name)
    with pytest.raises(LicenseChoiceError, match="no license called"):
        send_messages([Message(NUMBER, "x", license=name)])
    assert not OutboundMessage.objects.exists()


def test_what_is_neither_a_license_nor_a_name_is_refused_in_one_sentence(several):
    with pytest.raises(InvalidMessageError, match="give a License, or its name"):
        send_message(NUMBER, "x", license=several[0].pk)


def test_an_archived_license_is_no_candidate_and_not_the_first_one():
    first = _license("Pusat")
    first.archive()
    assert send_message(NUMBER, "x").license is None
    second = _license("Cabang")
    assert second.is_default
    assert send_message(NUMBER, "x").license == second


def test_two_licenses_read_at_once_never_give_two_keys_one_version():
    _license("Pusat")
    one, other = License.objects.get(), License.objects.get()
    versions = {one.api_key_version}
    for license_, key in ((one, "one-key-0123456789"), (other, "other-key-0123456789")):
        license_.set_api_key(key)
        license_.save()
        versions.add(license_.api_key_version)
    assert len(versions) == 3


@pytest.mark.parametrize("why", [Unchosen.NONE_ACTIVE, Unchosen.SEVERAL], ids=["none active", "several"])
def test_the_dashboard_doctor_and_a_check_say_how_many_wait_why_and_what_to_press(why, several, admin_client):
    License.objects.update(is_active=why == Unchosen.SEVERAL)
    for text in "ab":
        send_message(NUMBER, text)
    page = admin_client.get("/admin/django_kpwa/dashboard/").content.decode()
    assert f"2 receipts waiting, because {why.label}." in page
    (found,) = [message for message in run_checks(databases=["default"]) if message.id == "kpwa.W110"]
    assert (found.msg, bool(found.hint)) == (f"2 receipts waiting, because {why.label}.", True)
    output = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("kpwa", "doctor", stdout=output)
    assert f"2 receipts waiting, because {why.label}." in output.getvalue()
    page = admin_client.get("/admin/django_kpwa/outboundmessage/").content.decode()
    assert "2 messages" in page
    message = OutboundMessage.objects.first()
    page = admin_client.get(f"/admin/django_kpwa/outboundmessage/{message.pk}/change/").content.decode()
    assert "it is not clear which license sends it" in page


def test_adding_a_second_license_says_what_it_means_before_and_after(admin_client):
    assert "There is a license already" not in admin_client.get("/admin/django_kpwa/license/add/").content.decode()
    _license("Pusat")
    assert "There is a license already" in admin_client.get("/admin/django_kpwa/license/add/").content.decode()
    form = {"name": "Cabang", "api_key": "cabang-key-0123456789", "is_active": "on"}
    told = admin_client.post("/admin/django_kpwa/license/add/", form, follow=True).content.decode()
    assert "Messages that name no license are sent by Pusat." in told
    assert send_message(NUMBER, "x").license.name == "Pusat"


def test_the_default_is_chosen_on_a_licenses_page(admin_client):
    _license("Pusat")
    second = _license("Cabang")
    address = f"/admin/django_kpwa/license/{second.pk}/change/"
    admin_client.post(address, {"name": "Cabang", "api_key": "", "is_active": "on", "is_default": "on"})
    assert list(License.objects.filter(is_default=True)) == [second]


def test_a_license_that_never_sent_is_deleted_and_one_that_did_is_archived(admin_client):
    first, second = _license("Pusat"), _license("Cabang")
    send_message(NUMBER, "x", license=first)
    assert admin_client.post(f"/admin/django_kpwa/license/{first.pk}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(f"/admin/django_kpwa/license/{second.pk}/delete/", {"post": "yes"})
    assert list(License.objects.all()) == [first]
    License.objects.update(is_active=False)
    assert ">Archive</button>" in admin_client.get(f"/admin/django_kpwa/license/{first.pk}/change/").content.decode()
    admin_client.post(f"/admin/django_kpwa/license/{first.pk}/archive/", {"confirmed": "yes"})
    first.refresh_from_db()
    assert (first.is_active, first.is_default, first.archived_at is None) == (False, False, False)
    address = "/admin/django_kpwa/license/"
    assert "Pusat" not in admin_client.get(address).content.decode()
    assert "Pusat" in admin_client.get(f"{address}?archived=yes").content.decode()
    admin_client.post(f"/admin/django_kpwa/license/{first.pk}/take_back/")
    assert "Pusat" in admin_client.get(address).content.decode()
