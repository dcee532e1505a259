"""A sale's messages on its page in the site's admin: shown, never posted, and kept when the sale is deleted."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.admin import KpwaMessagesInline
from django_kpwa.admin.messages_inline import MAX_SHOWN
from django_kpwa.models import OutboundMessage, Status
from tests.shop.backoffice import site
from tests.shop.models import CounterSale, Line, Sale, Ticket

NUMBER = "081234567890"
MARKUP = "<script>alert('here')</script>"
SALES = "/back/office/shop/sale/"
LINES = {"lines-TOTAL_FORMS": "0", "lines-INITIAL_FORMS": "0"}

pytestmark = pytest.mark.urls("tests.shop.backoffice")


@pytest.fixture
def sale(db):
    return Sale.objects.create()


def shown(client, obj):
    answer = client.get(f"/back/office/shop/{obj._meta.model_name}/{obj.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def sale_form(**values):
    return {
        "status": "paid",
        "customer_phone": "",
        "sold_at_0": "2026-07-01",
        "sold_at_1": "09:00:00",
        "refunds": "0",
        **LINES,
        **values,
    }


def test_a_sales_messages_are_shown_with_their_status_and_links_to_their_pages(operator, license_, sale):
    message = outbox.send_message(NUMBER, "Struk 7\nKopi", source=sale)
    outbox.send_message(NUMBER, "Tentang yang lain", source=Sale.objects.create())
    page = shown(operator, sale)

    for part in ("Struk 7", "0812-3456-7890", "kpwa-mark kpwa-waiting", "waiting"):
        assert part in page
    assert f'href="/back/office/django_kpwa/outboundmessage/{message.pk}/change/"' in page
    assert "Kopi" not in page
    assert "Tentang yang lain" not in page


def test_what_needs_a_decision_is_called_so(operator, license_, sale):
    message = outbox.send_message(NUMBER, "Struk 7", source=sale)
    assert "Decide" not in shown(operator, sale)
    OutboundMessage.objects.update(status=Status.UNKNOWN)
    assert "Decide" in shown(operator, sale)
    OutboundMessage.objects.filter(pk=message.pk).update(dismissed_at=timezone.now())
    assert "Decide" not in shown(operator, sale)


def test_a_sale_without_messages_says_so(operator, sale):
    assert "Nothing has been sent about it yet." in shown(operator, sale)


def test_the_page_that_adds_a_sale_shows_nothing_and_adds_it(operator, license_):
    page = operator.get(f"{SALES}add/").content.decode()

    assert "kpwa-inline" not in page
    answer = operator.post(f"{SALES}add/", sale_form())
    assert answer.status_code == 302
    assert Sale.objects.count() == 1


def test_a_sale_is_saved_whatever_became_of_its_messages_meanwhile(operator, license_, sale):
    operator.get(f"{SALES}{sale.pk}/change/")
    message = outbox.send_message(NUMBER, "Struk 7", source=sale)
    answer = operator.post(f"{SALES}{sale.pk}/change/", sale_form(customer_phone="0813"))

    assert answer.status_code == 302
    sale.refresh_from_db()
    message.refresh_from_db()
    assert (sale.customer_phone, message.status) == ("0813", Status.QUEUED)


def test_what_is_posted_as_if_for_the_messages_changes_none(operator, license_, sale):
    message = outbox.send_message(NUMBER, "Struk 7", source=sale)
    forged = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(message.pk),
        "form-0-text": "Pesan lain",
        "form-0-DELETE": "on",
    }
    assert operator.post(f"{SALES}{sale.pk}/change/", sale_form(**forged)).status_code == 302
    message.refresh_from_db()
    assert message.text == "Struk 7"


def test_a_form_with_errors_comes_back_with_the_messages(operator, license_, sale):
    outbox.send_message(NUMBER, "Struk 7", source=sale)
    answer = operator.post(f"{SALES}{sale.pk}/change/", sale_form(status="no such status"))

    assert answer.status_code == 200
    assert "Struk 7" in answer.content.decode()
    assert answer.context["errors"]


def test_a_copy_of_a_sale_gets_no_messages(operator, license_, sale):
    outbox.send_message(NUMBER, "Struk 7", source=sale)
    operator.post(f"{SALES}{sale.pk}/change/", sale_form(_saveasnew="1"))

    copy = Sale.objects.latest("pk")
    assert copy != sale
    assert "Struk 7" not in shown(operator, copy)


def test_deleting_a_sale_keeps_its_messages(operator, license_, sale):
    message = outbox.send_message(NUMBER, "Struk 7", source=sale)
    assert "Struk 7" not in operator.get(f"{SALES}{sale.pk}/delete/").content.decode()
    operator.post(f"{SALES}{sale.pk}/delete/", {"post": "yes"})

    assert not Sale.objects.exists()
    message.refresh_from_db()
    assert message.source_id == str(sale.pk)


def test_the_newest_are_shown_and_the_others_are_one_click_away(operator, license_, sale):
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number:02}.", source=sale) for number in range(MAX_SHOWN))
    assert "There are more" not in shown(operator, sale)
    other = outbox.send_message(NUMBER, "Tentang yang lain", source=Sale.objects.create())
    outbox.send_message(NUMBER, "Yang terbaru", source=sale)
    answer = operator.get(f"{SALES}{sale.pk}/change/")
    page = answer.content.decode()

    assert "There are more" in page
    assert "Yang terbaru" in page
    assert "Struk 00." not in page
    formset = answer.context["inline_admin_formsets"][-1].formset
    listed = operator.get(formset.kpwa_list_url).context["cl"]
    assert listed.result_count == MAX_SHOWN + 1
    assert other.pk not in [message.pk for message in listed.result_list]


def test_it_takes_as_many_queries_for_many_messages_as_for_one(operator, license_, sale):
    outbox.send_message(NUMBER, "Struk", source=sale)
    shown(operator, sale)
    with CaptureQueriesContext(connection) as for_one:
        shown(operator, sale)
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}", source=sale) for number in range(40))
    with CaptureQueriesContext(connection) as for_many:
        shown(operator, sale)

    assert len(for_many) == len(for_one)
    assert not [query for query in for_many if '"text", "' in query["sql"]]


def test_messages_are_hidden_from_who_may_not_view_them(client, license_, sale):
    outbox.send_message(NUMBER, "Struk 7", source=sale)
    user = get_user_model().objects.create_user("ani", is_staff=True)
    client.force_login(user)
    user.user_permissions.set(Permission.objects.filter(codename="change_sale"))
    assert "Struk 7" not in shown(client, sale)
    assert client.post(f"{SALES}{sale.pk}/change/", sale_form()).status_code == 302

    user.user_permissions.add(Permission.objects.get(codename="view_outboundmessage"))
    assert "Struk 7" in shown(client, sale)


def test_a_person_who_may_only_look_at_sales_sees_their_messages(client, license_, sale):
    outbox.send_message(NUMBER, "Struk 7", source=sale)
    user = get_user_model().objects.create_user("ani", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_sale", "view_outboundmessage"]))
    client.force_login(user)

    assert "Struk 7" in shown(client, sale)


def test_a_sale_shows_its_messages_under_each_of_its_names(operator, license_, sale):
    counter = CounterSale.objects.get(pk=sale.pk)
    outbox.send_message(NUMBER, "Dari kasir", source=counter)
    outbox.send_message(NUMBER, "Dari kantor", source=sale)
    Line.objects.create(sale=sale, name="Kopi", price=18_000)

    for page in (shown(operator, sale), shown(operator, counter)):
        assert "Dari kasir" in page
        assert "Dari kantor" in page


def test_an_object_that_no_number_names_shows_its_messages(operator, license_):
    ticket = Ticket.objects.create(holder="Bu Sari")
    outbox.send_message(NUMBER, "Tiket Anda", source=ticket)
    outbox.send_message(NUMBER, "Tiket lain", source=Ticket.objects.create())
    page = shown(operator, ticket)

    assert "Tiket Anda" in page
    assert "Tiket lain" not in page


def test_stored_markup_never_becomes_live(operator, license_, sale):
    message = outbox.send_message(NUMBER, MARKUP, source=sale)
    OutboundMessage.objects.filter(pk=message.pk).update(recipient=MARKUP)
    page = shown(operator, sale)

    assert page.count("&lt;script&gt;alert(") == 3  # the recipient twice, once for screen readers
    assert "<script>alert(" not in page


def test_without_messages_on_the_site_they_are_shown_and_not_linked(operator, license_, sale):
    outbox.send_message(NUMBER, "Struk 7", source=sale)
    alone = admin.AdminSite(name="backoffice")

    class AloneAdmin(admin.ModelAdmin):
        inlines = [KpwaMessagesInline]

    alone.register(Sale, AloneAdmin)
    request = operator.get(SALES).wsgi_request
    response = alone.get_model_admin(Sale).changeform_view(request, str(sale.pk))
    page = response.render().content.decode()

    assert "Struk 7" in page
    assert "outboundmessage" not in page


def test_django_has_nothing_against_it():
    for model in (Sale, CounterSale, Ticket):
        assert site.get_model_admin(model).check() == []
