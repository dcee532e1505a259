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
    """The class whose hooks run inside the calls of this test."""
    settings.KPWA = {**settings.KPWA, "GATEWAY": HOOKED}
    yield HookedGateway
    HookedGateway.before_send = HookedGateway.after_send = HookedGateway.on_status = None


@pytest.fixture(params=FORMS)
def form(request):
    """Each form of the store that this database may have."""
    with stored_by(request.param):
        yield request.param


@pytest.fixture
def operator(client, db):
    """A client of somebody who may do everything."""
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


@pytest.fixture
def staff(client, db):
    """Logs a member of staff in who has these permissions."""

    def log_in(*codenames):
        user = get_user_model().objects.create_user("ani", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def server():
    """A gateway that does what the test tells it to, however wrong."""
    behaving = MisbehavingServer()
    yield behaving
    behaving.close()


@pytest.fixture
def register():
    """Registers a receipt class for `Sale` until the test's end."""
    registered = []

    def register_(receipt_class):
        registered.append(receipts.register(Sale)(receipt_class))
        return receipt_class

    yield register_
    for receipt_class in registered:
        receipts.unregister(receipt_class)
