"""A site's own tests, as its developer would write them. tests/integration/test_testing.py runs them."""

from __future__ import annotations

import os

from django.test import TransactionTestCase

from django_kpwa import dispatch, testing, wake
from django_kpwa.models import OutboundMessage, Status
from tests import celery_app
from tests.shop.models import Sale

celery_app.configure_broker(celery_app.app, os.environ["REDIS_URL"])
celery_app.app.conf.task_default_queue = "own-tests"
celery_app.app.set_current()
celery_app.app.set_default()


def sell():
    return Sale.objects.create(status=Sale.Status.PAID, customer_phone="081234567890")


class OwnTests(TransactionTestCase):
    def test_a_sale_stays_in_the_process(self):
        testing.clear()
        license_ = testing.create_license()
        sell()
        assert not wake.publish_dispatch(license_.pk)
        OutboundMessage.objects.update(due_at="2020-01-01T00:00Z")
        dispatch.drive(license_.pk)
        assert OutboundMessage.objects.get().status == Status.SENT
        assert len(testing.outbox) == 1

    def test_a_sale_without_a_license(self):
        sell()
        sell()

    def test_a_sale_that_reaches_outside(self):
        if os.environ.get("REACHES_OUTSIDE"):
            with testing.reach_outside():
                assert wake.publish_dispatch(testing.create_license().pk)
