"""Decide: the schema `tailrace` on the target: progress, tables, copies, quarantine, verdicts; and the guard.

Invariant: whatever says how far the target is lies in the target, and moves in the transaction of the rows it covers.
"""

from __future__ import annotations

from schemas.authority import TABLES as AUTHORITY
from schemas.checkpoint import TABLE as CHECKPOINTS

SCHEMA = "tailrace"

_TABLES = (
    """CREATE TABLE IF NOT EXISTS tailrace.progress(
        source text PRIMARY KEY, owner text NOT NULL, applied bigint NOT NULL, applying_to bigint,
        consistent boolean NOT NULL, identity text NOT NULL, offsets jsonb NOT NULL, captured_at_ms bigint NOT NULL,
        applied_at_ms bigint NOT NULL, highest bigint NOT NULL, phase text NOT NULL, format int NOT NULL,
        topics jsonb NOT NULL DEFAULT '{}')""",
    """CREATE TABLE IF NOT EXISTS tailrace.tables(
        source text NOT NULL, "table" text NOT NULL, state text NOT NULL, generation bigint NOT NULL,
        floor bigint NOT NULL, last_head bigint NOT NULL, value_schema_id bigint NOT NULL, key_schema_id bigint NOT NULL,
        reason text NOT NULL, target_schema text NOT NULL, target_table text NOT NULL, plan jsonb,
        PRIMARY KEY (source, "table"))""",
    """CREATE TABLE IF NOT EXISTS tailrace.copies(
        source text NOT NULL, "table" text NOT NULL, generation bigint NOT NULL, part int NOT NULL, last_key text,
        rows bigint NOT NULL, expected bigint NOT NULL, state text NOT NULL, shadow text,
        PRIMARY KEY (source, "table", generation, part))""",
    """CREATE TABLE IF NOT EXISTS tailrace.quarantine(
        source text NOT NULL, "table" text NOT NULL, key bytea NOT NULL, key_text text NOT NULL, reason text NOT NULL,
        seq bigint NOT NULL, since timestamptz NOT NULL DEFAULT now(), waived text,
        key_hash text GENERATED ALWAYS AS (md5(key)) STORED, PRIMARY KEY (source, "table", key_hash))""",
    """CREATE TABLE IF NOT EXISTS tailrace.verdicts(
        source text NOT NULL, "table" text NOT NULL, at_ms bigint NOT NULL, seq bigint NOT NULL, rows bigint NOT NULL,
        differing bigint NOT NULL, missing bigint NOT NULL, extra bigint NOT NULL, not_compared bigint NOT NULL,
        PRIMARY KEY (source, "table"))""",
    """CREATE TABLE IF NOT EXISTS tailrace.verified(
        source text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), offsets jsonb NOT NULL,
        topics jsonb NOT NULL, generations jsonb NOT NULL)""",
)

ADDED = ("ALTER TABLE tailrace.progress ADD COLUMN IF NOT EXISTS topics jsonb NOT NULL DEFAULT '{}'",)
"""What earlier versions made without; each is harmless to a reader that does not know it."""

GUARD = """CREATE OR REPLACE FUNCTION tailrace.guard() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    IF session_user::text <> TG_ARGV[0] THEN
        RAISE EXCEPTION 'table % belongs to a migration that has not switched yet: write to the SQLite side',
            TG_TABLE_NAME USING ERRCODE = 'TR001',
            HINT = 'until the switch only the Tailrace sink may write here';
    END IF;
    RETURN NULL;
END $guard$"""


def statements() -> list[str]:
    """Idempotent; needs CREATE on the database only the first time."""
    return [f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}", *_TABLES, *ADDED, *AUTHORITY, CHECKPOINTS, GUARD]
