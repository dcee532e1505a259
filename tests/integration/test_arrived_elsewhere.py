"""A message whose copy arrived at another number is offered for resending nowhere."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.messages import get_messages
from django.template import engines
from django.test import RequestFactory

from django_kpwa import outbox
from django_kpwa.models import OutboundMessage, Status
from tests.cli import kpwa
from tests.shop.models import Sale

NUMBER, OTHER, THIRD = "0812 3456 7890", "0857 1111 2222", "0821 3333 4444"
ADMIN = "/admin/django_kpwa"


def become(message, status):
    OutboundMessage.objects.filter(pk=message.pk).update(status=status)
    message.refresh_from_db()


@pytest.fixture
def sale(db):
    return Sale.objects.create()


@pytest.fixture
def message(license_, sale):
    message = outbox.send_message(NUMBER, "Struk 7", source=sale, license=license_)
    become(message, Status.FAILED)
    return message


@pytest.fixture
def copy(message):
    copy = outbox.send_to_another_number(message, OTHER)
    message.refresh_from_db()
    return copy


def chip(sale):
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username="boss")
    page = engines["django"].from_string("{% load kpwa_counter %}{% kpwa_chip sale %}").render({"sale": sale}, request)
    return str(page)


@pytest.mark.parametrize("status", Status.values)
def test_only_a_copy_that_arrived_ends_the_offer(operator, message, copy, status):
    become(copy, status)
    has_arrived = status in (Status.SENT, Status.DELIVERED, Status.READ)
    page = operator.get(f"{ADMIN}/outboundmessage/{message.pk}/change/").content.decode()

    assert ("send_again" in page) is not has_arrived
    assert "To another number:" in page
    assert f"/outboundmessage/{copy.pk}/change/" in page


def test_a_copy_of_a_copy_counts_and_one_that_arrived_stays_the_one_that_is_told(message, copy):
    become(copy, Status.FAILED)
    third = outbox.send_to_another_number(copy, THIRD)
    become(third, Status.SENT)
    message.refresh_from_db()
    assert outbox.arrived_elsewhere(message) == third

    outbox.send_to_another_number(message, "0813 5555 6666")
    message.refresh_from_db()
    assert outbox.arrived_elsewhere(message) == third


def test_a_stale_page_sends_nothing_again(operator, message, copy):
    become(copy, Status.DELIVERED)
    told = []
    for address in (f"{ADMIN}/outboundmessage/{message.pk}/send_again/", f"/kpwa/messages/{message.uuid}/resend/"):
        answer = operator.post(address, {"confirmed": "yes"})
        told += [str(each) for each in get_messages(answer.wsgi_request)]
    operator.post(f"{ADMIN}/outboundmessage/", {"action": "send_again", "_selected_action": [message.pk]})

    message.refresh_from_db()
    assert message.status == Status.FAILED
    assert "Nothing was sent: it arrived at another number." in told


def test_the_dashboard_and_the_chip_offer_it_no_more(operator, sale, message, copy):
    become(message, Status.UNKNOWN)
    assert "/send_again/" in operator.get(f"{ADMIN}/dashboard/").content.decode()
    assert "/resend/" in chip(sale)
    become(copy, Status.SENT)

    dashboard = operator.get(f"{ADMIN}/dashboard/").content.decode()
    assert "/send_again/" not in dashboard
    assert "/leave_it/" in dashboard
    assert "/resend/" not in chip(sale)
    assert "in doubt" not in chip(sale)


def test_the_command_line_says_where_it_arrived_and_a_sites_own_code_decides_itself(message, copy):
    become(copy, Status.READ)
    code, told = kpwa("messages", "resend", str(message.pk))
    assert (code, f"arrived at another number as message {copy.pk}" in told) == (1, True)

    assert outbox.resend(message)
    assert message.status == Status.QUEUED
