"""Do: the initial copy of rows of ten columns, beside COPY of the same rows from a text that is ready.

Run: python -m bench.copy [ROWS]
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from adapters.postgres import Postgres
from bench.rig import COLUMNS, Line, fill, folder, postgres, say, scaled, seconds


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else scaled(300_000)
    with folder() as where, postgres(where) as url:
        database = where / "source.db"
        fill(database, rows)
        floor = _ready_text(database, url)
        line = Line(where, database, url)
        capture, sink, copy = line.capture(), line.sink(), line.copy()
        while not _requested(url):
            capture.step()
            sink.step()
        took = seconds(lambda: _until_copied(copy, url))
        say(
            f"copy {rows:,} x {COLUMNS} columns",
            f"{took:.2f} s, {took / floor:.2f}x",
            floor=f"COPY of ready text {floor:.2f} s",
            reach="reach <= 1.1x",
        )
        line.settle(capture, sink, copy)
        line.close()


def _states(url: str) -> list[str]:
    target = Postgres(url, application_name="bench")
    try:
        return [row[0] for row in target.rows("SELECT state FROM tailrace.tables")]
    finally:
        target.close()


def _requested(url: str) -> bool:
    return _states(url) == ["requested"]


def _until_copied(copy: object, url: str) -> None:
    target = Postgres(url, application_name="bench")
    while [row[0] for row in target.rows("SELECT state FROM tailrace.tables")] != ["copied"]:
        copy.step()  # type: ignore[attr-defined]
    target.close()


def _ready_text(database: Path, url: str) -> float:
    """Seconds that the server needs for COPY FROM STDIN of lines which are ready in memory, into a table with its key."""
    connection = sqlite3.connect(database)
    blocks: list[bytes] = []
    block: list[str] = []
    for one in connection.execute("SELECT * FROM cases"):
        block.append("\t".join("\\N" if value is None else str(value) for value in one))
        if len(block) == 2000:
            blocks.append(("\n".join(block) + "\n").encode())
            block = []
    connection.close()
    if block:
        blocks.append(("\n".join(block) + "\n").encode())
    target = Postgres(url, application_name="bench")
    target.run(
        "CREATE TABLE floor(id bigint PRIMARY KEY, reference text, title text, status text, amount double precision, "
        "share double precision, opened date, owner bigint, stage bigint, notes text)"
    )

    def load() -> None:
        with target.connected().cursor().copy("COPY floor FROM STDIN") as stream:
            for one in blocks:
                stream.write(one)

    took = seconds(load)
    target.run("DROP TABLE floor")
    target.close()
    return took


if __name__ == "__main__":
    main()
