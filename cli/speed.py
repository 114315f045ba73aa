"""Do: measure what the copy will meet: reading the source, the way to the target, writing there. Leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from cli.check_result import CheckResult
from cli.wiring import open_target
from ops.config import Config

READ_BYTES = 64 * 1024 * 1024
ROWS = 50_000
TRIPS = 30


def measured(config: Config) -> list[CheckResult]:
    """One finding a measure; reads of a file that is in the cache show the cache."""
    results = [_read(name, config.source_path(name)) for name in config.source_databases]
    target = open_target(config, "check-speed")
    try:
        target.rows("SELECT 1")
        trips_ms = []
        for _ in range(TRIPS):
            begun = time.perf_counter()
            target.rows("SELECT 1")
            trips_ms.append((time.perf_counter() - begun) * 1000)
        text = f"{median(trips_ms):.2f} ms for a round trip (median of {TRIPS}), {max(trips_ms):.2f} ms at most"
        results.append(CheckResult("network", "ok", text))
        with target.transaction():
            target.run("CREATE TEMPORARY TABLE tailrace_speed(a bigint, b text) ON COMMIT DROP")
            begun = time.perf_counter()
            rows = ((number, "x" * 90) for number in range(ROWS))
            target.copy_in("COPY pg_temp.tailrace_speed FROM STDIN (FORMAT BINARY)", ["int8", "text"], rows)
            took_s = time.perf_counter() - begun
        text = f"{ROWS / took_s:,.0f} rows of 100 bytes a second by COPY into a temporary table"
        results.append(CheckResult("target writes", "ok", text))
    finally:
        target.close()
    return results


def _read(name: str, path: Path) -> CheckResult:
    """No connection of this process is open on the file here: closing our descriptor would drop its locks."""
    begun, read = time.perf_counter(), 0
    with path.open("rb", buffering=0) as file:
        while read < READ_BYTES and (block := file.read(1 << 20)):
            read += len(block)
    took_s = max(time.perf_counter() - begun, 1e-6)
    return CheckResult(f"{name} reads", "ok", f"{read / took_s / 1e6:,.0f} MB a second over the first {read:,} bytes")
