"""Do: rates of the local log on this machine: send and fetch of 200-byte records, and the wake-up of a waiting reader.

Run: python -m bench.locallog
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

from adapters.locallog import LocalLog
from schemas.change import Message, TopicPartition
from schemas.ports import TopicSettings

RECORDS = 200_000
BATCH_RECORDS = 2_000
WAKES = 100


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.db"
        log = LocalLog(path)
        log.create_topics({"t": TopicSettings(), "wake": TopicSettings()})
        headers = (("op", b"u"), ("seq", b"123456"), ("src", b"main"))
        messages = [Message("t", b"%016d" % at, b"v" * 184, headers) for at in range(RECORDS)]
        started = time.perf_counter()
        for at in range(0, RECORDS, BATCH_RECORDS):
            log.send(messages[at : at + BATCH_RECORDS])
        print(f"send  {RECORDS / (time.perf_counter() - started):10,.0f} records/s")
        where, position, started = TopicPartition("t", 0), 0, time.perf_counter()
        while (fetched := log.fetch({where: (position, None)})).messages:
            position = fetched.next[where]
        print(f"fetch {RECORDS / (time.perf_counter() - started):10,.0f} records/s")
        waits_ms = _wake_ups(log, path)
        print(f"wake-up p50 {statistics.median(waits_ms):.2f} ms, max {max(waits_ms):.2f} ms")
        log.close()


def _wake_ups(log: LocalLog, path: Path) -> list[float]:
    """From the return of send to the return of the waiting fetch of another connection, in ms."""
    sent: list[float] = []

    def write() -> None:
        writer = LocalLog(path)
        for _ in range(WAKES):
            time.sleep(0.01)
            writer.send([Message("wake", b"k", b"v")])
            sent.append(time.perf_counter())
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    seen: list[float] = []
    for at in range(WAKES):
        log.fetch({TopicPartition("wake", 0): (at, at + 1)}, timeout_s=5.0)
        seen.append(time.perf_counter())
    thread.join()
    return [max(0.0, (b - a) * 1000) for a, b in zip(sent, seen, strict=True)]


if __name__ == "__main__":
    main()
