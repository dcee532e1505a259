"""The example's corrected filesystem broker: two producers, a real worker, and thousands of messages without a loss."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kombu import Connection

from example_project import filesystem_broker

MESSAGES = 2_000
ROOT = Path(__file__).resolve().parent.parent.parent
# A separate app: each task writes a line. O_APPEND keeps the lines of several processes whole.
APP = """
import os, sys
from pathlib import Path
from celery import Celery
from example_project import filesystem_broker

filesystem_broker.register()
folder = Path(os.environ["HAMMER_FOLDER"])
app = Celery("hammer", broker=f"{filesystem_broker.SCHEME}://localhost")
app.conf.update(
    broker_transport_options=filesystem_broker.transport_options(folder / "broker") | {"polling_interval": 0.01},
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
)

@app.task(name="hammer.mark")
def mark(number):
    line = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(line, b"%d\\n" % number)
    os.close(line)

if __name__ == "__main__":
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for number in range(first, first + count):
        mark.delay(number)
"""


@pytest.fixture
def connection(tmp_path):
    filesystem_broker.register()
    # A process remembers the queues that it has declared, and has one folder. Here every test has a folder of its own.
    filesystem_broker.Transport.global_state.clear()
    options = filesystem_broker.transport_options(tmp_path)
    with Connection(f"{filesystem_broker.SCHEME}://localhost", transport_options=options) as opened:
        yield opened


def marks(folder: Path) -> list[int]:
    path = folder / "marks"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.slow
def test_a_worker_loses_none_of_two_thousand_messages_of_two_producers_and_repeats_none(tmp_path):
    (tmp_path / "hammer.py").write_text(APP)
    environment = {**os.environ, "HAMMER_FOLDER": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "celery", "-A", "hammer", "worker", "--pool", "prefork", "--concurrency", "2"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
            cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            produce = [sys.executable, "hammer.py"]
            halves = [("0", "1000"), ("1000", "1000")]
            producers = [subprocess.Popen([*produce, *half], cwd=tmp_path, env=environment) for half in halves]
            assert [producer.wait(60) for producer in producers] == [0, 0]
            gives_up_at = time.monotonic() + 60
            while len(marks(tmp_path)) < MESSAGES and worker.poll() is None and time.monotonic() < gives_up_at:
                time.sleep(0.1)
            assert worker.poll() is None, (tmp_path / "log").read_text()[-3000:]
        finally:
            worker.terminate()
            worker.wait(30)
    assert sorted(marks(tmp_path)) == list(range(MESSAGES))
    assert list((tmp_path / "broker" / "messages").iterdir()) == []


def test_a_message_is_invisible_until_it_is_whole_and_readers_share_no_message(connection, tmp_path):
    taken: list[str] = []

    def read() -> None:
        with Connection(connection.as_uri(), transport_options=connection.transport_options) as own:
            queue = own.SimpleQueue("kasir")
            while True:
                try:
                    message = queue.get(timeout=1)
                except queue.Empty:
                    return
                taken.append(message.payload["text"])
                message.ack()

    readers = [threading.Thread(target=read) for _ in range(3)]
    queue = connection.SimpleQueue("kasir")
    for reader in readers:
        reader.start()
    for number in range(150):
        queue.put({"text": f"{number}:" + "x" * 20_000})
    for reader in readers:
        reader.join()
    assert sorted(int(text.partition(":")[0]) for text in taken) == list(range(150))


def test_messages_are_taken_in_the_order_they_were_put(connection):
    queue = connection.SimpleQueue("kasir")
    for number in range(5):
        queue.put(number)
    assert [queue.get(timeout=1).payload for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_message_that_was_not_acknowledged_is_there_after_the_reader_left(connection):
    connection.SimpleQueue("kasir").put("struk")
    with Connection(connection.as_uri(), transport_options=connection.transport_options) as reader:
        reader.SimpleQueue("kasir").get(timeout=1)
    assert connection.SimpleQueue("kasir").get(timeout=1).payload == "struk"


def test_binding_from_many_threads_at_once_keeps_every_queue_in_the_table(connection):
    def bind(number: int) -> None:
        with Connection(connection.as_uri(), transport_options=connection.transport_options) as own:
            own.channel()._queue_bind("toko", f"key-{number}", "", f"queue-{number}")

    threads = [threading.Thread(target=bind, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.queue for row in connection.channel().get_table("toko")} == {f"queue-{number}" for number in range(12)}


def test_a_deleted_queue_leaves_the_table_and_takes_its_messages_along(connection):
    connection.SimpleQueue("kasir").put("struk")
    connection.SimpleQueue("dapur").put("pesanan")
    channel = connection.channel()
    channel._delete("kasir", "kasir", "kasir", "")
    assert channel.get_table("kasir") == []
    assert channel._size("kasir") == 0
    assert channel._size("dapur") == 1
