"""Permissions: every kind of person × every address of the app × GET and POST.

The test finds the addresses itself. A new page fails here until `EXPECTED` says what each person gets.

    ok      a page                      login   sent to the login
    back    led to another page         no      403
    404, 405                            …
    done, ok+    the same as back and ok, and something was stored or the gateway was called
"""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.test import Client

from django_kpwa.models import License
from tests.cli import kpwa
from tests.shop.models import Sale
from tests.sites.routes import routes_of
from tests.sites.shop import NUMBER, Shop

pytestmark = pytest.mark.django_db

PEOPLE = ("anonymous", "staff", "viewer", "operator", "superuser")
OPERATES = (
    "decide_outboundmessage",
    "add_outboundmessage",
    "lift_recipient",
    "link_license",
    "operate_license",
    "reprocess_webhookevent",
)

# What each of PEOPLE gets: by GET | by POST.
EXPECTED = """
dashboard/                                        login no    ok    ok    ok    | login no    ok    ok    ok
dashboard/fresh/                                  login no    ok    ok    ok    | login no    ok    ok    ok
dashboard/decide/                                 login 405   405   405   405   | login no    no    done  done
dashboard/alerts/                                 login 405   405   405   405   | login no    no    back  back
license/<path:object_id>/link/                    login no    no    ok    ok    | login no    no    ok+   ok+
license/<path:object_id>/link/check/              login no    no    405   405   | login no    no    ok+   ok+
license/<path:object_id>/link/passkey/            login no    no    ok    ok    | login no    no    ok    ok
license/<path:object_id>/link/in_use/             login no    no    405   405   | login no    no    back  back
license/<path:object_id>/send_test/               login no    no    ok    ok    | login no    no    done  done
license/<path:object_id>/check_number/            login no    no    ok    ok    | login no    no    ok+   ok+
license/<path:object_id>/check_status/            login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/restart/                 login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/pause/                   login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/resume/                  login 405   405   405   405   | login no    no    back  back
license/<path:object_id>/end_restriction/         login 405   405   405   405   | login no    no    back  back
license/<path:object_id>/confirm_number/          login 405   405   405   405   | login no    no    back  back
license/<path:object_id>/keep_number/             login 405   405   405   405   | login no    no    back  back
license/<path:object_id>/archive/                 login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/take_back/               login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/register_webhook/        login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/renew_webhook/           login 405   405   405   405   | login no    no    done  done
license/<path:object_id>/reset_webhook/           login 405   405   405   405   | login no    no    done  done
license/                                          login no    ok    ok    ok    | login no    ok    ok    ok
license/add/                                      login no    no    no    ok    | login no    no    no    done
license/<path:object_id>/history/                 login no    ok    ok    ok    | login no    ok    ok    ok
license/<path:object_id>/delete/                  login no    no    no    no    | login no    no    no    no
license/<path:object_id>/change/                  login no    ok    ok    ok    | login no    no    no    done
license/<path:object_id>/                         login back  back  back  back  | login back  back  back  back
outboundmessage/<path:object_id>/another_number/  login no    no    ok    ok    | login no    no    done  done
outboundmessage/<path:object_id>/send_again/      login 405   405   405   405   | login no    no    done  done
outboundmessage/<path:object_id>/asks_again/      login 405   405   405   405   | login no    no    back  back
outboundmessage/<path:object_id>/send_now/        login 405   405   405   405   | login no    no    back  back
outboundmessage/<path:object_id>/forget/          login 405   405   405   405   | login no    no    no    done
outboundmessage/<path:object_id>/it_arrived/      login 405   405   405   405   | login no    no    done  done
outboundmessage/<path:object_id>/leave_it/        login 405   405   405   405   | login no    no    done  done
outboundmessage/<path:object_id>/cancel/          login 405   405   405   405   | login no    no    back  back
outboundmessage/                                  login no    ok    ok    ok    | login no    back  done  done
webhookevent/<path:object_id>/reprocess/          login 405   405   405   405   | login no    no    done  done
webhookevent/                                     login no    ok    ok    ok    | login no    ok    done  done
registeredreceipt/                                login no    ok    ok    ok    | login no    ok    ok    ok
registeredreceipt/missing/                        login no    ok    ok    ok    | login no    ok    ok    ok
registeredreceipt/missing/send/                   login 405   405   405   405   | login no    no    done  done
registeredreceipt/<str:label>/                    login no    ok    ok    ok    | login no    ok    ok    ok
registeredreceipt/<str:label>/send_now/           login 405   405   405   405   | login no    no    done  done
receiptfailure/                                   login no    ok    ok    ok    | login no    ok    back  back
receiptfailure/<path:object_id>/send_now/         login 405   405   405   405   | login no    no    done  done
receiptfailure/<path:object_id>/clear/            login 405   405   405   405   | login no    no    done  done
kpwa:webhooks/<str:token>/                        ok    ok    ok    ok    ok    | 404   404   404   404   404
kpwa:webhooks/<str:token>                         ok    ok    ok    ok    ok    | 404   404   404   404   404
kpwa:health/<str:secret>/                         404   404   404   404   404   | 404   404   404   404   404
kpwa:health/<str:secret>                          404   404   404   404   404   | 404   404   404   404   404
kpwa:metrics/<str:secret>/                        404   404   404   404   404   | 404   404   404   404   404
kpwa:metrics/<str:secret>                         404   404   404   404   404   | 404   404   404   404   404
kpwa:messages/<uuid:message_uuid>/resend/         405   405   405   405   405   | no    no    no    done  done
kpwa:messages/<uuid:message_uuid>/send-now/       405   405   405   405   405   | no    no    no    back  back
kpwa:messages/<uuid:message_uuid>/send-to/        405   405   405   405   405   | no    no    no    done  done
kpwa:messages/<uuid:message_uuid>/asks-again/     405   405   405   405   405   | no    no    no    back  back
kpwa:receipts/<int:failure_id>/send-now/          405   405   405   405   405   | no    no    no    done  done
"""
# Django's own pages for models that nobody edits by hand. A row of EXPECTED takes precedence.
OF_RECORDS = """
add/                                              login no    no    no    no     | login no    no    no    no
<path:object_id>/history/                         login no    ok    ok    ok     | login no    ok    ok    ok
<path:object_id>/delete/                          login no    no    no    no     | login no    no    no    no
<path:object_id>/change/                          login no    ok    ok    ok     | login no    no    no    no
<path:object_id>/                                 login back  back  back  back   | login back  back  back  back
"""
BY_THEIR_SECRET = ("kpwa:webhooks/", "kpwa:health/", "kpwa:metrics/")
"""Addresses for machines. They check the secret in the address, and no CSRF token."""
RECORDS = ("outboundmessage", "webhookevent", "receiptfailure")


def expectations():
    """Return a dict from `(address, method)` to what each of PEOPLE gets."""
    lines = [f"{model}/{line}" for model in RECORDS for line in OF_RECORDS.strip().splitlines()]
    found = {}
    for line in [*lines, *EXPECTED.strip().splitlines()]:
        before, after = line.split("|")
        name, *by_get = before.split()
        found |= {(name, "GET"): by_get, (name, "POST"): after.split()}
    return found


@pytest.fixture
def calls(monkeypatch):
    """The licenses whose gateway was used."""
    asked = []
    original = License.get_gateway
    monkeypatch.setattr(License, "get_gateway", lambda self: (asked.append(self.pk), original(self))[1])
    return asked


def test_every_address_of_the_app_has_its_row_and_every_row_its_address():
    found = {(route.name, method) for route in routes_of(admin.site) for method in ("GET", "POST")}

    assert sorted(found - set(expectations())) == [], "Add to EXPECTED what each person gets at these addresses."
    assert sorted(set(expectations()) - found) == [], "EXPECTED names addresses that no longer exist."


def test_no_get_is_expected_to_do_anything():
    does = {"done", "ok+"}
    assert [
        name for (name, method), expected in expectations().items() if method == "GET" and does & set(expected)
    ] == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("person", PEOPLE)
def test_each_person_gets_what_is_theirs(person, method, calls):
    expected = {name: row[PEOPLE.index(person)] for (name, by), row in expectations().items() if by == method}
    found = {name: word for (name, _), word in outcomes(person, calls, method).items()}
    assert found == expected


# What the ready-made groups may do. For the cashier: everything that is not refused. For the owner: only where a
# superuser may do more. Previews show the site's own models, and this app cannot grant access to those.
CASHIER = {
    ("outboundmessage/", "GET"): "ok",
    ("outboundmessage/", "POST"): "done",
    ("outboundmessage/<path:object_id>/change/", "GET"): "ok",
    ("outboundmessage/<path:object_id>/history/", "GET"): "ok",
    ("outboundmessage/<path:object_id>/history/", "POST"): "ok",
    ("outboundmessage/<path:object_id>/another_number/", "GET"): "ok",
    ("outboundmessage/<path:object_id>/another_number/", "POST"): "done",
    ("outboundmessage/<path:object_id>/send_again/", "POST"): "done",
    ("outboundmessage/<path:object_id>/send_now/", "POST"): "back",
    ("outboundmessage/<path:object_id>/it_arrived/", "POST"): "done",
    ("outboundmessage/<path:object_id>/leave_it/", "POST"): "done",
    ("outboundmessage/<path:object_id>/cancel/", "POST"): "back",
    ("kpwa:messages/<uuid:message_uuid>/resend/", "POST"): "done",
    ("kpwa:messages/<uuid:message_uuid>/send-now/", "POST"): "back",
    ("kpwa:messages/<uuid:message_uuid>/send-to/", "POST"): "done",
    ("kpwa:receipts/<int:failure_id>/send-now/", "POST"): "done",
}
NOT_THE_OWNERS = {
    ("registeredreceipt/<str:label>/send_now/", "POST"): "no",
    ("registeredreceipt/missing/send/", "POST"): "no",
}


@pytest.mark.parametrize("person", ["cashier", "owner"])
def test_the_ready_made_groups_give_what_they_say(person, calls):
    found = {}
    for (name, method), got in outcomes(person, calls, "GET", "POST").items():
        expected = expectations()[name, method]
        if person == "owner":
            found |= {(name, method): got} if got != expected[-1] else {}
        elif got != expected[PEOPLE.index("staff")] and got != "no":
            found[name, method] = got

    assert found == (NOT_THE_OWNERS if person == "owner" else CASHIER)


def test_no_post_is_taken_without_its_token():
    shop = Shop()
    client = Client(enforce_csrf_checks=True)
    client.force_login(a_person("superuser"))
    before = everything()
    addresses = [
        route.url(shop.values(route.model))
        for route in routes_of(admin.site)
        if not route.name.startswith(BY_THEIR_SECRET)
    ]

    answers = {address: client.post(address, body_for(shop, "")).status_code for address in addresses}
    assert {address for address, status in answers.items() if status not in (403, 405)} == set()
    assert everything() == before


# Helpers


def outcomes(person, calls, *methods):
    """Return what `person` gets at every address, keyed by its name and the method."""
    shop, client = Shop(), client_of(person)
    before = everything()
    return {
        (route.name, method): outcome(route, method, client, shop, before, calls)
        for route in routes_of(admin.site)
        for method in methods
    }


def outcome(route, method, client, shop, before, calls):
    """Return in one word what a person gets from a shop with the rows `before`. All changes are rolled back."""
    del calls[:]
    address = route.url(shop.values(route.model))
    may_have_written = []

    def watch(execute, sql, *arguments):
        if not sql.startswith(("SELECT ", "SAVEPOINT ", "RELEASE SAVEPOINT ")):
            may_have_written.append(sql)
        return execute(sql, *arguments)

    with transaction.atomic():
        with connection.execute_wrapper(watch):
            answer = client.get(address) if method == "GET" else client.post(address, body_for(shop, route.model))
        # Reading every row takes longer than most pages, so it is done only after a write.
        has_changed = bool(calls) or (bool(may_have_written) and everything() != before)
        transaction.set_rollback(True)
    if answer.status_code == 302:
        if answer["Location"].startswith("/admin/login/"):
            word = "login"
        else:
            return "done" if has_changed else "back"
    else:
        word = {200: "ok", 403: "no"}.get(answer.status_code, str(answer.status_code))
    return f"{word}+" if has_changed else word


def client_of(person):
    """Return a client in which `person` is logged in."""
    client = Client()
    user = a_person(person)
    if user is not None:
        client.force_login(user)
    return client


def a_person(name):
    if name == "anonymous":
        return None
    if name == "superuser":
        return get_user_model().objects.create_superuser(name)
    user = get_user_model().objects.create_user(name, is_staff=True)
    if name in ("cashier", "owner"):
        kpwa("groups", "-v", "0")
        user.groups.add(Group.objects.get(name=f"WhatsApp: {name}"))
        return user
    ours = Permission.objects.filter(content_type__app_label__in=["django_kpwa", "shop"])
    if name in ("viewer", "operator"):
        user.user_permissions.add(*ours.filter(codename__startswith="view_"))
    if name == "operator":
        granted = ours.filter(codename__in=OPERATES)
        assert len(granted) == len(OPERATES)
        user.user_permissions.add(*granted)
    return user


def body_for(shop, model):
    """Return one body that fills every form with all that it needs to act without a confirmation page."""
    # On the dashboard, people decide about messages.
    objects = shop.objects.get("outboundmessage" if model == "dashboard" else model, [])
    return {
        **{"confirmed": "yes", "post": "yes"},
        **{"action": {"webhookevent": "reprocess"}.get(model, "send_again")},
        **{"_selected_action": [each.pk for each in objects], "to": "081298765432"},
        **{"name": f"{shop.license.name}, Bandung", "api_key": "another-test-api-key", "is_active": "on"},
        **{"number": NUMBER, "text": "Halo", "pk": str(shop.sale.pk), "label": str(shop.values(model)["label"])},
    }


def everything():
    """Return every row of the app, of its shop, and of the admin's log."""
    models = [*apps.get_app_config("django_kpwa").get_models(), Sale, LogEntry]
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in models
        if not model._meta.proxy
    }
