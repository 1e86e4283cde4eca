"""The background writer: in order, bounded, and complete when it is closed."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from prospect_lib.server.background import BackgroundWriter, job_runner


class Sink:
    """Collects the batches written; a closed gate holds the writing thread."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def write(self, items: list[int]) -> None:
        self.entered.set()
        self.gate.wait(10)
        self.batches.append(items)

    @property
    def items(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def writer_to(sink: Sink, **options) -> BackgroundWriter[int]:
    return BackgroundWriter(sink.write, **{"name": "numbers", "limit": 1000, **options})


def test_items_of_every_thread_arrive_in_the_order_of_their_thread():
    sink = Sink()
    writer = writer_to(sink, limit=10_000)

    def put(thread: int) -> None:
        for number in range(200):
            writer.put(1000 * thread + number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    writer.close()
    assert len(sink.items) == 1600
    for thread in range(8):
        of_thread = [item for item in sink.items if item // 1000 == thread]
        assert of_thread == [1000 * thread + number for number in range(200)]


def test_items_are_written_without_a_call():
    sink = Sink()
    writer = writer_to(sink)
    writer.put(1)
    assert sink.entered.wait(10)
    writer.close()
    assert sink.items == [1]


def test_flush_returns_when_everything_is_written():
    sink = Sink()
    writer = writer_to(sink, every=3600)
    for number in range(3):
        writer.put(number)
    writer.flush()
    assert sink.batches == [[0, 1, 2]]
    writer.close()


def test_flush_waits_for_a_batch_that_the_thread_is_writing():
    sink = Sink()
    writer = writer_to(sink)
    sink.gate.clear()
    writer.put(1)
    assert sink.entered.wait(10)
    threading.Timer(0.05, sink.gate.set).start()
    writer.flush()
    assert sink.items == [1]
    writer.close()


def test_closing_writes_everything_and_a_later_item_starts_again():
    sink, threads = Sink(), set(threading.enumerate())
    writer = writer_to(sink, every=3600)
    for number in range(3):
        writer.put(number)
        writer.close()
        writer.close()
        assert sink.items == list(range(number + 1))
        assert set(threading.enumerate()) <= threads


def test_closing_gives_up_after_its_patience(caplog):
    sink = Sink()
    writer = writer_to(sink, patience=0.05)
    sink.gate.clear()
    writer.put(1)
    writer.close()
    assert sink.items == []
    assert caplog.messages == ["numbers: still busy after 0.05 s, not awaited"]
    sink.gate.set()
    writer.flush()


def test_the_end_of_python_writes_everything():
    program = (
        "from prospect_lib.server.background import BackgroundWriter\n"
        "writer = BackgroundWriter(print, name='numbers', limit=9, every=3600)\n"
        "writer.put(1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert run.stdout == "[1]\n"


def test_items_beyond_the_limit_are_dropped_counted_and_logged(caplog):
    sink = Sink()
    writer = writer_to(sink, limit=2, every=3600)
    for number in range(5):
        writer.put(number)
    assert caplog.messages == ["numbers: 2 wait already, new ones are dropped"]
    writer.flush()
    assert caplog.messages[1:] == ["numbers: 3 were dropped"]
    assert (sink.items, writer.dropped) == ([0, 1], 3)
    writer.put(5)
    writer.close()
    assert (sink.items, writer.dropped) == ([0, 1, 5], 3)


def test_a_failure_is_logged_by_its_kind_and_the_next_batch_is_written(caplog):
    written: list[int] = []

    def write(items: list[int]) -> None:
        if items == [0]:
            raise ValueError("secret-value")
        written.extend(items)

    writer = BackgroundWriter(write, name="numbers", limit=10, every=3600, batch=1)
    for number in range(3):
        writer.put(number)
    writer.close()
    assert written == [1, 2]
    assert caplog.messages == ["numbers: writing failed (ValueError)"]


def test_jobs_run_one_after_the_other_whatever_fails(caplog):
    jobs, done = job_runner(), []
    for number in range(4):
        jobs.put(lambda number=number: done.append(10 // number))
    jobs.close()
    assert done == [10, 5, 3]
    assert caplog.messages == ["background jobs: writing failed (ZeroDivisionError)"]
