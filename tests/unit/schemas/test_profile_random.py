"""Random tables in many pieces: what the scan says is what Python finds by looking at every value."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import schemas.profile
from adapters.sqlite import SqliteDatabase
from schemas.codecs_dates import form_of, loosened, timestamp
from schemas.introspect import introspect
from schemas.profile import ColumnProfile, profile_table

DECLARED = ("INTEGER", "REAL", "TEXT", "", "NUMERIC(9,2)", "BOOLEAN", "DATE", "DATETIME", "DATE COLLATE RTRIM", "JSON")
MIXES: dict[str, list[Any]] = {
    "ints": [-3, 7, 1 << 62],
    "bits": [0, 1],
    "reals": [0.5, -1e300],
    "short": ["a", "\u00e9", ""],
    "long": ["x" * 70, "\u00e9" * 50],
    "days": ["2024-02-29", "1999-12-31", "2000-01-01"],
    "moments": ["2024-02-29 10:11:12", "1999-12-31 00:00:00"],
    "json": ["{}", '["a"]'],
    "nulls": [None],
}
NUL_TEXTS = ["a\0b", "\0", "x" * 60 + "\0y"]
STRANGE: list[Any] = [None, 2, 0.25, float("inf"), b"", b"2024-02-29", "2023-02-29", "2024-02-29\0", "2024-02-29 "]
STRANGE += [
    *NUL_TEXTS,
    "2024-02-29T10:11:12",
    "1999-12-31 00:00:00\0",
    "{",
    "2024-02-29 10:11:12.5",
    "2024-02-29 10:11:12",
]
USUAL = [("BOOLEAN", "bits"), ("NUMERIC(9,2)", "reals"), ("TEXT", "short"), ("TEXT", "long"), ("DATE", "days")]
USUAL += [("DATETIME", "moments"), ("JSON", "json"), ("INTEGER", "ints")]
LATE = 250
"""Behind the sample."""


def _table(db: SqliteDatabase, rng: random.Random) -> list[str]:
    kinds = [rng.choice(USUAL) if at % 3 else (rng.choice(DECLARED), rng.choice(list(MIXES))) for at in range(5)]
    columns = ", ".join(f"c{at} {declared}" for at, (declared, _) in enumerate(kinds))
    db.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, {columns})")
    db.run(f"CREATE INDEX i ON t(c{rng.randrange(5)})")
    rows = rng.choice((0, 40, 400, 700))
    filled = []
    for _, mix in kinds:
        values = [rng.choice(MIXES[mix]) for _ in range(rows)]
        for _ in range(rng.choice((0, 1, 1, 30)) if rows > LATE else 0):
            values[rng.randrange(LATE, rows)] = rng.choice(
                [rng.choice(STRANGE), rng.choice(NUL_TEXTS), float("inf"), 2]
            )
        filled.append(values)
    with db.write():
        db.run_many("INSERT INTO t(c0, c1, c2, c3, c4) VALUES (?, ?, ?, ?, ?)", list(zip(*filled, strict=True)))
    return [declared for declared, _ in kinds]


def _has_form(form: str, text: str) -> bool:
    return (
        form_of(text) == "date" if form == "date" else bool(check(text)) if (check := timestamp(form).check) else False
    )


def _form(db: SqliteDatabase, declared: str, c: str, texts: list[str]) -> str:
    if declared == "JSON":
        valid = db.rows(f"SELECT min(json_valid({c})) FROM t WHERE {c} IS NOT NULL")[0][0]
        return "json" if valid else ""
    form = form_of(texts[0]) if declared.startswith("DATE") else None
    loose = [loosened(form)] if form else []
    return next((one for one in [form, *loose] if one and all(_has_form(one, text) for text in texts)), "")


def _looked_at(db: SqliteDatabase, declared: str, c: str) -> ColumnProfile:
    found = db.rows(f"SELECT typeof({c}), CAST({c} AS BLOB), {c} FROM t ORDER BY id")
    kinds = [kind for kind, _, _ in found]
    texts = [value for kind, _, value in found if kind == "text"]
    ints = [value for kind, _, value in found if kind == "integer"]
    awkward = sum("\0" in text for text in texts)
    counts = [kinds.count(kind) for kind in ("integer", "real", "text", "blob", "null")]
    plain = texts and not awkward and len(texts) + counts[4] == len(found)
    indexed = db.rows("SELECT 1 FROM pragma_index_info('i') WHERE name = ?", (c,))
    longest = max((len(raw) for kind, raw, _ in found if kind in ("text", "blob")), default=0) if indexed else 0
    return ColumnProfile(
        *counts,
        awkward,
        declared in ("BOOLEAN", "NUMERIC(9,2)") and bool(ints) and set(ints) <= {0, 1},
        declared not in ("REAL", "TEXT", "")
        and any(kind == "real" and abs(value) == float("inf") for kind, _, value in found),
        _form(db, declared, c, texts) if plain else "",
        longest,
    )


@pytest.mark.parametrize("seed", range(40))
def test_every_figure_is_what_looking_at_each_value_says(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas.profile, "_PIECE_SPAN", 50)
    monkeypatch.setattr(schemas.profile, "_PIECES", 7)
    with closing(SqliteDatabase(tmp_path / "one.db", create=True)) as db:
        db.run(f"PRAGMA encoding = '{'UTF-8' if seed % 4 else 'UTF-16le'}'")
        declared = _table(db, random.Random(seed))
        profile = profile_table(db, introspect(db).tables["t"])
        for at, one in enumerate(declared):
            assert (one, _looked_at(db, one, f"c{at}")) == (one, profile.columns[f"c{at}"])


@pytest.mark.parametrize(
    ("declared", "mix", "late"),
    [
        ("TEXT", "short", "a\0b"),
        ("TEXT", "long", "x" * 60 + "\0"),
        ("TEXT", "long", b"x" * 60),
        ("BOOLEAN", "bits", 2),
        ("BOOLEAN", "bits", 1.5),
        ("NUMERIC(9,2)", "reals", float("-inf")),
        ("DATE", "days", "2023-02-29"),
        ("DATE", "days", "2024-02-29\0"),
        ("DATETIME", "moments", "2024-02-29 10:11:12.000001"),
        ("DATETIME", "moments", b"2024-02-29 10:11:12"),
        ("JSON", "json", "{"),
        ("", "nulls", "\0"),
        ("INTEGER", "ints", 0.5),
    ],
)
def test_one_value_behind_thousands_is_seen(
    declared: str, mix: str, late: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas.profile, "_PIECE_SPAN", 50)
    with closing(SqliteDatabase(tmp_path / "one.db", create=True)) as db:
        db.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, c {declared})")
        db.run("CREATE INDEX i ON t(c)")
        with db.write():
            db.run_many("INSERT INTO t(c) VALUES (?)", [(one,) for one in MIXES[mix] * 1200] + [(late,)])  # type: ignore[list-item]
        assert _looked_at(db, declared, "c") == profile_table(db, introspect(db).tables["t"]).columns["c"]
