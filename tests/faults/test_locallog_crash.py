"""A writer is killed at random moments; what stays is whole batches with gap-free offsets."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from adapters.locallog import LocalLog
from schemas.change import Message, TopicPartition
from schemas.ports import TopicSettings

BATCH = 50
WRITER = """
import sys
from adapters.locallog import LocalLog
from schemas.change import Message
log = LocalLog(sys.argv[1])
batch = log.ends(["t"])["t"][0] // 50
while True:
    log.send([Message("t", b"k", b"%d" % batch) for _ in range(50)])
    print(batch, flush=True)
    batch += 1
"""


def test_kill_in_the_middle_of_send(tmp_path: Path) -> None:
    path = tmp_path / "stream.db"
    log = LocalLog(path)
    log.create_topics({"t": TopicSettings()})
    moments = random.Random(7)
    acknowledged = -1
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(moments.uniform(0.0, 0.05))
        writer.kill()
        rest, _ = writer.communicate()
        acknowledged = max([acknowledged, *(int(line) for line in rest.splitlines() if line)])
        end = log.ends(["t"])["t"][0]
        found = log.fetch({TopicPartition("t", 0): (0, None)}, max_messages=1_000_000, max_bytes=1 << 30).messages
        assert [one.offset for one in found] == list(range(end))
        assert [one.value for one in found] == [b"%d" % (at // BATCH) for at in range(end)]
        assert end % BATCH == 0
        assert end // BATCH >= acknowledged + 1
    log.send([Message("t", b"k", b"after")])
    log.close()
