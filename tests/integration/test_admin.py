"""The admin through Django's test client: keys are write-only, records are read-only, and markup stays text."""

from __future__ import annotations

import json

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone, translation

from django_kpwa import outbox, wake
from django_kpwa.admin import register
from django_kpwa.models import (
    Dashboard,
    EventKind,
    EventStatus,
    License,
    OutboundMessage,
    ReceiptFailure,
    RegisteredReceipt,
    WebhookEvent,
    body_digest,
)

KEY = "a-secret-key-of-the-gateway-9x7z"
MARKUP = "<script>alert('here')</script>"


@pytest.fixture
def woken(monkeypatch):
    """The licenses whose lanes were woken. Other tests cover publishing, with a broker."""
    licenses = []
    monkeypatch.setattr(wake, "wake_license", lambda license_id, **_: licenses.append(license_id))
    return licenses


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "english", "indonesian"),
    [
        (License, "then press Link WhatsApp on", "lalu tekan Tautkan WhatsApp"),
        (OutboundMessage, "press Send a test message on", "tekan Kirim pesan percobaan"),
        (ReceiptFailure, "No receipt has failed", "Tidak ada struk yang gagal"),
        (WebhookEvent, "press Register the webhook on", "tekan Daftarkan webhook"),
    ],
)
def test_an_empty_list_says_what_to_do_next(admin_client, model, english, indonesian):
    address = f"/admin/django_kpwa/{model._meta.model_name}/"
    assert english in admin_client.get(address).content.decode()
    with translation.override("id"):
        assert indonesian in admin_client.get(address).content.decode()
    assert english not in admin_client.get(address, {"q": "tidak ada"}).content.decode()


def an_event(license_, text="terima kasih", **fields):
    body = fields.pop("body", json.dumps({"from": "6281234567890", "message": text}).encode())
    now = timezone.now()
    return WebhookEvent.objects.create(
        license=license_,
        body=body,
        digest=body_digest(license_.pk, body),
        received_at=now,
        last_received_at=now,
        **{
            "status": EventStatus.PROCESSED,
            "kind": EventKind.INCOMING,
            "understood": {"kind": "incoming", "sender": "6281234567890", "text": text},
            **fields,
        },
    )


def license_form(**values):
    return {"name": "Cabang Bandung", "is_active": "on", "api_key": "", "base_url": "", **values}


# Licenses


def test_a_license_is_added_with_its_key_encrypted(operator):
    answer = operator.post("/admin/django_kpwa/license/add/", license_form(api_key=KEY))

    assert answer.status_code == 302
    added = License.objects.get()
    assert added.get_api_key().reveal() == KEY
    assert KEY not in added.api_key_ciphertext


def test_a_license_is_not_added_without_a_key(operator):
    answer = operator.post("/admin/django_kpwa/license/add/", license_form())

    assert "api_key" in answer.context["adminform"].form.errors
    assert not License.objects.exists()


def test_the_key_is_on_no_page_and_only_its_end_is_told(operator):
    operator.post("/admin/django_kpwa/license/add/", license_form(api_key=KEY))
    address = f"/admin/django_kpwa/license/{License.objects.get().pk}"
    pages = [operator.get(f"{address}/{page}/").content.decode() for page in ("change", "history")]
    pages.append(operator.get("/admin/django_kpwa/license/").content.decode())
    pages.append(operator.post(f"{address}/change/", license_form(name="", api_key=KEY)).content.decode())

    assert not [page for page in pages if KEY in page]
    assert "ends in 9x7z" in pages[0]
    assert "This field is required" in pages[-1]


@pytest.mark.parametrize(
    ("key", "told"),
    [(KEY, "A key that ends in 9x7z is stored. Leave"), ("short-key", "A key is stored. Leave")],
    ids=["a long key", "a key too short to tell its end"],
)
def test_the_form_says_which_key_is_stored(operator, license_, key, told):
    license_.set_api_key(key)
    license_.save()

    assert told in operator.get(f"/admin/django_kpwa/license/{license_.pk}/change/").content.decode()


def test_the_admin_speaks_indonesian_on_a_site_that_does(operator, license_, settings):
    settings.LANGUAGE_CODE = "id"
    outbox.send_message("081234567890", "Struk 1")

    assert "menunggu" in operator.get("/admin/django_kpwa/outboundmessage/").content.decode()
    refused = operator.post(f"/admin/django_kpwa/license/{license_.pk}/change/", license_form(api_key="broken key"))
    assert "Kunci API berisi spasi" in refused.content.decode()


def test_a_key_that_cannot_stand_in_a_header_is_an_error_of_the_form_that_does_not_repeat_it(operator, license_):
    answer = operator.post(
        f"/admin/django_kpwa/license/{license_.pk}/change/", license_form(api_key="broken key\nsecond line")
    )

    assert answer.status_code == 200
    assert "white space" in str(answer.context["adminform"].form.errors["api_key"])
    assert "broken key" not in answer.content.decode()
    license_.refresh_from_db()
    assert license_.get_api_key().reveal() == "test-api-key-0001"


def test_saving_without_a_key_keeps_the_stored_one_and_wakes_nobody(
    operator, license_, woken, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(
            f"/admin/django_kpwa/license/{license_.pk}/change/",
            license_form(pace_min_seconds="1", pace_max_seconds="2"),
        )

    license_.refresh_from_db()
    assert (license_.name, license_.pace_seconds) == ("Cabang Bandung", (1.0, 2.0))
    assert (license_.get_api_key().reveal(), license_.api_key_version) == ("test-api-key-0001", 1)
    assert woken == []


@pytest.mark.parametrize("change", [{"api_key": KEY}, {"is_active": ""}], ids=["another key", "switched off"])
def test_a_changed_key_or_active_flag_wakes_the_lane(
    operator, license_, woken, change, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(f"/admin/django_kpwa/license/{license_.pk}/change/", license_form(**change))

    assert woken == [license_.pk]


def test_a_new_key_counts_its_version_up_so_that_a_lane_refused_with_the_old_one_goes_on(operator, license_):
    operator.post(f"/admin/django_kpwa/license/{license_.pk}/change/", license_form(api_key=KEY))

    license_.refresh_from_db()
    assert license_.api_key_version == 2


def test_a_license_with_messages_is_not_deleted(operator, license_):
    address = f"/admin/django_kpwa/license/{license_.pk}/delete/"
    outbox.send_message("081234567890", "Struk 1")

    assert operator.post(address, {"post": "yes"}).status_code == 403
    OutboundMessage.objects.all().delete()
    assert operator.post(address, {"post": "yes"}).status_code == 302
    assert not License.objects.exists()


def test_who_may_only_look_at_a_license_gets_no_field_for_a_key(client, license_):
    user = get_user_model().objects.create_user("looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_license"))
    client.force_login(user)
    address = f"/admin/django_kpwa/license/{license_.pk}/change/"
    page = client.get(address)

    assert page.status_code == 200
    assert 'type="password"' not in page.content.decode()
    assert "ends in 0001" in page.content.decode()
    assert client.post(address, license_form(api_key=KEY)).status_code == 403


@pytest.mark.parametrize("model", ["outboundmessage", "webhookevent", "receiptfailure"])
def test_records_are_neither_added_nor_changed_nor_deleted(operator, license_, model):
    records = {
        "outboundmessage": outbox.send_message("081234567890", "Struk 1"),
        "webhookevent": an_event(license_),
        "receiptfailure": ReceiptFailure.objects.create(
            receipt="sales.SaleReceipt",
            source_content_type=ContentType.objects.get_for_model(License),
            source_id="7",
            error="KeyError: 'total'",
            occurred_at=timezone.now(),
        ),
    }
    address = f"/admin/django_kpwa/{model}"
    page = f"{address}/{records[model].pk}"

    assert operator.get(f"{address}/").status_code == 200
    assert operator.get(f"{page}/change/").status_code == 200
    assert operator.get(f"{address}/add/").status_code == 403
    assert operator.post(f"{page}/change/", {"status": "sent"}).status_code == 403
    assert operator.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    operator.post(f"{address}/", {"action": "delete_selected", "_selected_action": [records[model].pk], "post": "yes"})
    records[model].refresh_from_db()


# Text written by strangers


def test_stored_markup_never_becomes_live(operator, license_):
    message = outbox.send_message("081234567890", MARKUP, idempotency_key=MARKUP)
    event = an_event(license_, MARKUP, error=MARKUP, gateway_id=MARKUP, content_type=MARKUP)
    event.understood["sender"] = MARKUP
    event.save()
    failure = ReceiptFailure.objects.create(
        receipt=MARKUP,
        source_content_type=ContentType.objects.get_for_model(License),
        source_id=MARKUP,
        error=MARKUP,
        occurred_at=timezone.now(),
    )
    addresses = []
    for record in (message, event, failure):
        listed = f"/admin/django_kpwa/{record._meta.model_name}/"
        addresses += [listed, f"{listed}{record.pk}/change/"]

    for address in addresses:
        page = operator.get(address).content.decode()
        assert "&lt;script&gt;alert(" in page, address
        assert "<script>alert(" not in page, address


# Sites


def test_another_admin_site_takes_all_of_it_once_and_keeps_what_it_has():
    class HostsOwnAdmin(admin.ModelAdmin):
        pass

    site = admin.AdminSite(name="backoffice")
    site.register(License, HostsOwnAdmin)
    register(site)
    register(site)

    screens = {Dashboard, RegisteredReceipt}
    assert {License, OutboundMessage, WebhookEvent, ReceiptFailure} | screens == set(site._registry)
    assert isinstance(site.get_model_admin(License), HostsOwnAdmin)
