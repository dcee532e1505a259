"""Rows 11 and 12: a sale saved repeatedly, concurrently, or not at all; and row 10, repeated tasks."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise

import pytest
from django.db import connection, transaction

from django_kpwa import wake
from django_kpwa.models import OutboundMessage, Status
from tests.celery_app import app
from tests.processes import ROOT, site_environment
from tests.shop.models import Sale

from .harness import wait_for

SAVE_WHEN_TOLD = """
import sys, django
django.setup()
from tests.shop.models import Sale
sale = Sale.objects.get(pk=int(sys.argv[1]))
sale.status = Sale.Status.PAID
print("ready", flush=True)
sys.stdin.readline()
sale.save()
print("saved", flush=True)
"""


def test_a_sale_saved_at_the_same_moment_by_two_processes_has_one_message(shop):
    shop.start_worker()
    shop.start_beat()
    for _ in range(2):
        sale = Sale.objects.create(customer_phone="081299000011")
        command = [sys.executable, "-c", SAVE_WHEN_TOLD, str(sale.pk)]
        environment = site_environment(broker_url=shop.broker_url, broker_folder=shop.folder)
        tills = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        assert [till.stdout.readline() for till in tills] == ["ready\n"] * 2
        for till in tills:
            till.stdin.write("now\n")
            till.stdin.flush()
        assert [till.communicate(timeout=60)[0] for till in tills] == ["saved\n"] * 2
        assert [till.returncode for till in tills] == [0, 0]
        shop.sold[sale.pk] = 0.0
    shop.settle()
    assert shop.statuses() == {Status.SENT: 2}


def test_ten_saves_in_a_row_send_one_message(shop):
    [key] = shop.sell()
    sale = Sale.objects.get(pk=key)
    for _ in range(5):
        sale.save()
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    for _ in range(5):
        sale.save()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 1}


def test_a_sale_that_is_rolled_back_has_no_message_and_no_task(shop):
    shop.start_worker()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        shop.withdrawn.append(shop.save_sale().pk)
        raise ZeroDivisionError
    assert not OutboundMessage.objects.exists()
    assert list(shop.broker_texts()) == []
    shop.sell()
    shop.settle()
    [worker] = shop.processes
    assert worker.output.count("dispatch_license[") >= 1
    assert shop.arrived() == 1


@pytest.mark.slow
def test_a_sale_whose_process_is_killed_before_its_commit_has_no_message(shop):
    shop.start_worker()
    shop.start_beat()
    code = """
import os, signal, django
django.setup()
from django.db import transaction
from tests.shop.models import Sale
with transaction.atomic():
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone="081299000012")
    print(sale.pk, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = site_environment(broker_url=shop.broker_url, broker_folder=shop.folder)
    till = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    shop.withdrawn.append(int(till.stdout))
    shop.sell()
    shop.settle()
    assert shop.arrived() == 1


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_every_task_delivered_ten_times_at_once_sends_each_message_once(shop, pool):
    shop.start_worker(pool, concurrency=4)
    shop.start_beat()
    for _ in range(3):
        shop.sell(5)
        for _ in range(10):
            app.send_task(wake.DISPATCH_LICENSE, (shop.license.pk,), ignore_result=True)
            app.send_task(wake.DISPATCH_DUE, (), ignore_result=True)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 15}
    assert shop.arrived() == 15


def test_a_continuation_delivered_ten_times_at_once_keeps_the_pace_and_sends_each_message_once(make_shop):
    shop = make_shop(PACE_SECONDS=[2, 2])
    shop.start_worker(concurrency=4)
    shop.start_beat()
    shop.send(4)
    for count in range(1, 4):
        shop.phone.wait_for_deliveries(count, 60)
        # Nobody drives during the wait of the pace. The published continuation carries the lease.
        wait_for(lambda: Status.SENDING not in shop.statuses(), "the record")
        token = shop.lane().lease_token
        for _ in range(10):
            app.send_task(wake.DISPATCH_LICENSE, (shop.license.pk, str(token)), ignore_result=True)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 4}
    times = [datetime.fromisoformat(delivery["accepted_at"]) for delivery in shop.phone.ledger()]
    assert min((later - earlier).total_seconds() for earlier, later in pairwise(times)) > 1.5


@pytest.mark.slow
def test_many_tills_at_once_lose_no_sale(shop):
    shop.start_worker()
    shop.start_beat()

    def sell(_):
        try:
            return shop.sell(5)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as tills:
        keys = [key for sold in tills.map(sell, range(8)) for key in sold]
    shop.settle()
    assert len(set(keys)) == 40
    assert shop.arrived() == 40
    assert shop.statuses() == {Status.SENT: 40}
