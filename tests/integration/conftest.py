"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from django_kpwa import receipts
from tests.gateways import HOOKED, HookedGateway
from tests.shop.models import Sale
from tests.stores import FORMS, stored_by

from .misbehaving import MisbehavingServer


@pytest.fixture
def hooks(settings):
    """The gateway class of this test, whose hooks run inside its calls."""
    settings.KPWA = {**settings.KPWA, "GATEWAY": HOOKED}
    yield HookedGateway
    HookedGateway.before_send = HookedGateway.after_send = HookedGateway.on_status = None


@pytest.fixture(params=FORMS)
def form(request):
    """Run the test once with each form of the store that this database supports."""
    with stored_by(request.param):
        yield request.param


@pytest.fixture
def operator(client, db):
    """A client logged in as a superuser."""
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


@pytest.fixture
def staff(client, db):
    """Return a function that logs in a member of staff with the given permissions."""

    def log_in(*codenames):
        user = get_user_model().objects.create_user("ani", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def server():
    """A gateway server that behaves as the test tells it to, even wrongly."""
    behaving = MisbehavingServer()
    yield behaving
    behaving.close()


@pytest.fixture
def register():
    """Return a function that registers a receipt class for `Sale` until the test ends."""
    registered = []

    def register_(receipt_class):
        registered.append(receipts.register(Sale)(receipt_class))
        return receipt_class

    yield register_
    for receipt_class in registered:
        receipts.unregister(receipt_class)
