"""Do: build the two databases of the sample application, the same for the same seed.

cases.db: cases, parties, documents (blobs, deduplicated by hash), a ledger of constant sum, counters and an audit table
kept by the application's own triggers, UNIQUE, cascades, a view, a full-text table. auth.db: users, roles, sessions.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from pathlib import Path

import sqlite_utils

WORDS = [
    "appeal",
    "brief",
    "charge",
    "claim",
    "clause",
    "court",
    "decree",
    "docket",
    "estate",
    "filing",
    "hearing",
    "lease",
    "lien",
    "motion",
    "notice",
    "order",
]
LEDGER_ACCOUNTS = 40
LEDGER_TOTAL = LEDGER_ACCOUNTS * 1000

CASES_SCHEMA = """
CREATE TABLE cases(
    id INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE COLLATE NOCASE, title TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'stayed', 'closed')), filed_on DATE,
    amount DECIMAL(12,2), urgent BOOLEAN NOT NULL DEFAULT 0, notes);
CREATE TABLE parties(
    case_id INTEGER NOT NULL REFERENCES cases(id) ON DELETE CASCADE ON UPDATE CASCADE, role TEXT NOT NULL,
    name TEXT NOT NULL, contact TEXT, PRIMARY KEY (case_id, role, name)) WITHOUT ROWID;
CREATE TABLE documents(
    id TEXT PRIMARY KEY NOT NULL, case_id INTEGER REFERENCES cases(id) ON DELETE CASCADE ON UPDATE CASCADE,
    title TEXT NOT NULL, sha256 TEXT NOT NULL, body BLOB NOT NULL, pages INTEGER, added_at DATETIME DEFAULT (datetime('now')),
    UNIQUE (case_id, title));
CREATE TABLE ledger(account INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE counters(name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit(at TEXT NOT NULL, what TEXT NOT NULL, case_id INTEGER);
CREATE INDEX parties_by_name ON parties(name COLLATE NOCASE);
CREATE INDEX open_cases ON cases(filed_on DESC) WHERE status = 'open';
CREATE VIEW open_case_titles AS SELECT id, title FROM cases WHERE status = 'open';
CREATE VIRTUAL TABLE case_search USING fts5(title, content='cases', content_rowid='id');
CREATE TRIGGER case_added AFTER INSERT ON cases BEGIN
    INSERT INTO audit VALUES (datetime('now'), 'added', NEW.id);
    INSERT OR REPLACE INTO counters VALUES ('cases', (SELECT count(*) FROM cases));
    INSERT INTO case_search(rowid, title) VALUES (NEW.id, NEW.title);
END;
CREATE TRIGGER case_removed AFTER DELETE ON cases BEGIN
    INSERT INTO audit VALUES (datetime('now'), 'removed', OLD.id);
    INSERT OR REPLACE INTO counters VALUES ('cases', (SELECT count(*) FROM cases));
    INSERT INTO case_search(case_search, rowid, title) VALUES ('delete', OLD.id, OLD.title);
END;
"""

AUTH_SCHEMA = """
CREATE TABLE users(
    id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, password_hash TEXT NOT NULL,
    mfa_secret BLOB, locked BOOLEAN NOT NULL DEFAULT 0, last_login REAL);
CREATE TABLE roles(user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE, role TEXT NOT NULL,
    PRIMARY KEY (user_id, role)) WITHOUT ROWID;
CREATE TABLE sessions(token TEXT PRIMARY KEY NOT NULL, user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL, state BLOB);
"""

# A bcrypt hash of a word that no sample user can log in with: hashing hundreds for real would take minutes.
SAMPLE_HASH = "$2b$12$" + "abcdefghijklmnopqrstuu" + "C3dEfGhIjKlMnOpQrStUvWxYz012345"


def title(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(3)).capitalize()


def document(rng: random.Random) -> bytes:
    return b"%PDF-1.4\n" + rng.randbytes(rng.randrange(200, 6000))


def build(folder: Path, *, seed: int = 1, cases: int = 400, users: int = 120) -> tuple[Path, Path]:
    """Create cases.db and auth.db in `folder`; returns their paths. Existing files are an error."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "cases.db", folder / "auth.db"
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} is already there")
    rng = random.Random(seed)
    _build_cases(paths[0], rng, cases)
    _build_auth(paths[1], rng, users)
    return paths


def _build_cases(path: Path, rng: random.Random, count: int) -> None:
    db = sqlite_utils.Database(path)
    db.executescript(CASES_SCHEMA)
    numbers = range(1, count + 1)
    db.table("cases").insert_all(
        {
            "id": number,
            "reference": f"C-{number:06d}",
            "title": title(rng),
            "status": rng.choice(["open", "open", "stayed", "closed"]),
            "filed_on": f"20{rng.randrange(10, 26)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
            "amount": rng.choice([None, rng.randrange(10**6), round(rng.random() * 10**6, 2)]),
            "urgent": rng.randrange(2),
            "notes": rng.choice([None, "", rng.randrange(100), "see file", rng.random(), rng.randbytes(3)]),
        }
        for number in numbers
    )
    db.table("parties").insert_all(
        {
            "case_id": number,
            "role": role,
            "name": f"Party {rng.randrange(500)}",
            "contact": rng.choice([None, "by post"]),
        }
        for number in numbers
        for role in ("claimant", "defendant")
    )
    bodies = [document(rng) for _ in range(max(1, count // 2))]
    db.table("documents").insert_all(
        {
            "id": f"{number:08x}-{copy}",
            "case_id": number,
            "title": f"Exhibit {copy}",
            "sha256": hashlib.sha256(body).hexdigest(),
            "body": body,
            "pages": rng.randrange(1, 200),
            "added_at": "2026-01-02 03:04:05",
        }
        for number in numbers
        for copy, body in ((copy, rng.choice(bodies)) for copy in range(rng.randrange(3)))
    )
    db.table("ledger").insert_all({"account": number, "balance": 1000} for number in range(1, LEDGER_ACCOUNTS + 1))
    db.conn.close()


def _build_auth(path: Path, rng: random.Random, count: int) -> None:
    db = sqlite_utils.Database(path)
    db.executescript(AUTH_SCHEMA)
    db.table("users").insert_all(
        {
            "id": number,
            "email": f"user{number}@example.invalid",
            "password_hash": SAMPLE_HASH,
            "mfa_secret": rng.randbytes(20) if number % 3 == 0 else None,
            "locked": number % 17 == 0,
            "last_login": 1.7e9 + rng.random() * 1e7 if number % 5 else None,
        }
        for number in range(1, count + 1)
    )
    db.table("roles").insert_all(
        {"user_id": number, "role": role}
        for number in range(1, count + 1)
        for role in (["clerk"] if number % 4 else ["clerk", "partner"])
    )
    db.table("sessions").insert_all(
        {
            "token": rng.randbytes(16).hex(),
            "user_id": rng.randrange(1, count + 1),
            "expires_at": 1_900_000_000,
            "state": b"{}",
        }
        for _ in range(count)
    )
    db.conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the sample databases.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=400)
    chosen = parser.parse_args()
    for path in build(chosen.folder, seed=chosen.seed, cases=chosen.cases):
        print(f"built {path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
