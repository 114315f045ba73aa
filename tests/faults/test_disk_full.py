"""A full disk, under the stream and under the source: said once, nothing lost, everything goes on when there is room."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from tests.faults.disk import fill, small_file_system
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import start_server, with_database


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of a few megabytes (12, or the parameter); needs root."""
    with small_file_system(getattr(request, "param", 12)) as folder:
        if folder is None:
            pytest.skip("a small file system needs root and tmpfs")
        yield folder


@pytest.mark.slow
def test_under_the_stream(pipeline: Pipeline, small_disk: Path) -> None:
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("tailrace-stream.db", str(small_disk / "stream.db")))
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    junk = fill(small_disk)
    pipeline.write(seconds=4, rate=0)
    pipeline.end_writers()
    pipeline.until(lambda: "stream-full" in pipeline.errors() or "stream-io" in pipeline.errors())
    document = json.loads(pipeline.run("status", "--json").stdout)
    assert document["sources"]["cases"]["lag_changes"] > 0
    assert not document["can_cutover"]
    assert all(process.poll() is None for process in pipeline.processes.values())
    junk.unlink()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    assert pipeline.errors().count("[stream-full]") <= 6


@pytest.mark.slow
def test_under_the_source(pipeline: Pipeline, small_disk: Path) -> None:
    """The application's own writes fail, as they would without us; ours wait; nothing is corrupt afterwards."""
    shutil.move(pipeline.folder / "cases.db", small_disk / "cases.db")
    text = pipeline.config_path.read_text()
    text = text.replace('cases = "cases.db"', f'cases = "{small_disk}/cases.db"')
    pipeline.config_path.write_text(text.replace(f"min_free_bytes = {256 * 1024 * 1024}", "min_free_bytes = 0"))
    from ops.config import load

    pipeline.config = load(pipeline.config_path)
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    junk = fill(small_disk)
    failed = 0
    with closing(sqlite3.connect(small_disk / "cases.db", timeout=5, isolation_level=None)) as app:
        for number in range(400):
            try:
                app.execute("INSERT INTO audit VALUES (?, zeroblob(2000), NULL)", (f"{number}",))
            except sqlite3.OperationalError:
                failed += 1
        assert 0 < failed
        junk.unlink()
        app.execute("INSERT INTO audit VALUES ('after', 'room', NULL)")
        assert ("ok",) == app.execute("PRAGMA integrity_check").fetchone()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [30], indirect=True)
def test_under_everything(small_disk: Path, database_url: str) -> None:
    """Sources, stream, logs and signs of life on one disk, as `init` lays them out: no daemon ends because it cannot say
    what is wrong."""
    pipeline = Pipeline(small_disk / "run", database_url)
    try:
        pipeline.config_path.write_text(
            pipeline.config_path.read_text().replace(f"min_free_bytes = {256 * 1024 * 1024}", "min_free_bytes = 0")
        )
        pipeline.install()
        pipeline.start()
        pipeline.settle()
        with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
            app.execute("INSERT INTO audit VALUES ('before', 'full', NULL)")
            junk = fill(small_disk)
            for number in range(200):
                with contextlib.suppress(sqlite3.OperationalError):
                    app.execute("INSERT INTO audit VALUES (?, zeroblob(2000), NULL)", (f"{number}",))
            time.sleep(4)
            assert {None} == {process.poll() for process in pipeline.processes.values()}, pipeline.story()
            junk.unlink()
            app.execute("INSERT INTO audit VALUES ('after', 'room', NULL)")
        pipeline.settle()
        assert all(report.clean for report in pipeline.verify())
        assert {None} == {process.poll() for process in pipeline.processes.values()}, pipeline.story()
    finally:
        pipeline.close()


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_under_the_target(tmp_path: Path, small_disk: Path) -> None:
    """The target's tablespace is full: said, the lag grows truly, and all of it is applied when there is room."""
    server, url, folder = start_server()
    pipeline = Pipeline(tmp_path / "run", with_database(url, "small"))
    try:
        os.chown(small_disk, (folder / "server" / "data").stat().st_uid, -1)
        admin = Postgres(url, application_name="admin")
        admin.run(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        admin.run("CREATE DATABASE small TABLESPACE small")
        admin.close()
        pipeline.install()
        pipeline.start()
        pipeline.settle()
        junk = fill(small_disk)
        with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
            for number in range(300):
                app.execute("INSERT INTO audit VALUES (?, randomblob(3000), NULL)", (f"{number}",))
        pipeline.until(lambda: "target-disk-full" in pipeline.errors())
        document = json.loads(pipeline.run("status", "--json").stdout)
        assert document["sources"]["cases"]["lag_changes"] > 0
        assert not document["can_cutover"]
        junk.unlink()
        pipeline.settle()
        assert all(report.clean for report in pipeline.verify())
        assert pipeline.errors().count("[target-disk-full]") <= 6
    finally:
        pipeline.close()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
