"""`kpwa groups` makes the groups once, in the site's language. Later it adds what is missing but removes nothing."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management.base import CommandError

from tests.cli import kpwa, kpwa_json

pytestmark = pytest.mark.django_db


def given():
    return {group.name: {each.codename for each in group.permissions.all()} for group in Group.objects.all()}


def test_the_groups_are_made_once_and_told():
    _, told = kpwa("groups")
    first = given()
    code, document = kpwa_json("groups")

    assert "WhatsApp: cashier: created" in told
    assert first["WhatsApp: cashier"] == {"view_outboundmessage", "decide_outboundmessage", "add_outboundmessage"}
    ours = Permission.objects.filter(content_type__app_label="django_kpwa")
    assert first["WhatsApp: owner"] == set(ours.values_list("codename", flat=True))
    assert given() == first
    assert (code, [each["created"] for each in document]) == (0, [False, False])
    assert "nothing to change" in kpwa("groups")[1]
    assert kpwa("groups", "-v", "0") == (0, "")


def test_what_the_site_gave_a_group_stays_and_what_it_lacks_is_added():
    kpwa("groups")
    cashier = Group.objects.get(name="WhatsApp: cashier")
    own, taken = (Permission.objects.get(codename=name) for name in ("view_sale", "add_outboundmessage"))
    cashier.permissions.add(own)
    cashier.permissions.remove(taken)
    _, document = kpwa_json("groups")

    assert document[0]["permissions_added"] == ["add_outboundmessage"]
    assert {own, taken} <= set(cashier.permissions.all())


def test_the_names_are_the_sites_and_found_again_in_another_language(settings):
    settings.LANGUAGE_CODE = "id"
    kpwa("groups")
    names = set(given())
    assert names == {"WhatsApp: kasir", "WhatsApp: pemilik"}

    settings.LANGUAGE_CODE = "en"
    kpwa("groups")
    assert set(given()) == names


def test_a_database_without_the_permissions_is_told_of():
    Permission.objects.filter(codename="decide_outboundmessage").delete()
    with pytest.raises(CommandError, match="run migrate first"):
        kpwa("groups")
    assert given() == {}
