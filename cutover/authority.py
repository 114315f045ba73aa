"""Do: the authority row: read it, and move it by compare-and-set together with the progress rows and the journal.

The order is the argument: a move changes the row first, in the transaction of everything that goes with it. Whoever read
an older token changes no row and stops (Superseded), before any fence, guard or route was touched on the strength of it.
The phase in `tailrace.progress` moves in the same transaction: an apply in flight holds its progress row, so the move
waits for it, and an apply that comes later loses its compare-and-set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from adapters.postgres import Postgres
from schemas.authority import Authority, Migration, Restoring, Window, may_move
from schemas.errors import Code, Refusal, Superseded
from schemas.names import text_beside_parameters

SILENT_MS = 4000
"""In the middle of a move nothing is waited for but the server."""

_READ = (
    "SELECT authority, token, drained, owner, extract(epoch FROM lease_until - clock_timestamp())::double precision, "
    # A target that no daemon of this release has met yet lacks the last column.
    "reverse_start, reverse_label, cutoff::text, read_share, no_rollback::text, failed, to_jsonb(m) ->> 'restoring' "
    "FROM tailrace.migration AS m WHERE id = 1"
)

_WINDOW = (
    "SELECT (extract(epoch FROM m.window_until) * 1000)::bigint, "
    "extract(epoch FROM m.window_until - clock_timestamp())::double precision, j.actor, "
    "(extract(epoch FROM j.at) * 1000)::bigint FROM tailrace.migration AS m LEFT JOIN LATERAL (SELECT actor, at FROM "
    "tailrace.journal WHERE before = 'to_target' AND after = 'target' ORDER BY seq DESC LIMIT 1) AS j ON true "
    "WHERE m.id = 1 AND m.authority IN ('target', 'to_source') AND m.window_until IS NOT NULL"
)


def _restoring(text: str | None) -> Restoring | None:
    found: dict[str, str] = json.loads(text) if text else {}
    return Restoring(found["checkpoint"], found["reason"], Authority(found["was"])) if found else None


class AuthorityRow:
    """One migration's row. `actor` is written into the journal."""

    def __init__(self, target: Postgres, *, actor: str) -> None:
        self._target = target
        self._actor = actor

    def read(self) -> Migration:
        """Raises Refusal(TARGET_UNPREPARED) where nothing was ever begun."""
        if not self._target.rows("SELECT to_regclass('tailrace.migration') IS NOT NULL")[0][0]:
            raise Refusal(Code.TARGET_UNPREPARED, "nothing runs yet", hint="tailrace up")
        row = self._target.rows(_READ)[0]
        return Migration(
            authority=Authority(row[0]),
            token=row[1],
            drained=row[2],
            owner=row[3],
            lease_left_s=row[4],
            reverse_start=row[5],
            reverse_label=row[6],
            cutoff=json.loads(row[7]),
            read_share=row[8],
            no_rollback=json.loads(row[9]),
            failed=row[10],
            restoring=_restoring(row[11]),
        )

    def window(self) -> Window | None:
        """None: no rollback of writes is possible now, so none is promised."""
        found = self._target.rows(_WINDOW)
        if not found:
            return None
        until_ms, left_s, switched_by, switched_ms = found[0]
        return Window(until_ms, left_s, str(switched_by or "").partition(":")[0], switched_ms)

    def move(
        self,
        before: Migration,
        after: Authority,
        *,
        verb: str,
        lease_s: float | None = None,
        also: Mapping[str, str] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> int:
        """One compare-and-set, its journal line and the progress rows; returns the new token. In the caller's transaction
        if one is open.

        Args:
            lease_s: the move begins something that `before.owner`'s successor must finish within this time.
            also: column -> SQL expression, set by the same statement (what the open stores: its own snapshot).
        """
        if not may_move(before.authority, after):
            raise ValueError(f"no move from {before.authority} to {after}")
        more = "".join(f", {column} = {expression}" for column, expression in (also or {}).items())
        lease = "NULL" if lease_s is None else f"clock_timestamp() + interval '{float(lease_s)} seconds'"
        with self._target.transaction():
            self._brace()
            changed = self._target.run(
                f"UPDATE tailrace.migration SET authority = %s, token = token + 1, drained = false, owner = %s, "
                f"lease_until = {lease}{more} WHERE id = 1 AND authority = %s AND token = %s",
                (after, self._actor if lease_s is not None else "", before.authority, before.token),
            )
            if changed != 1:
                raise self._moved(before)
            self._target.run(
                "UPDATE tailrace.progress SET phase = %s WHERE phase <> 'paused' OR %s <> 'source'",
                (str(after), str(after)),
            )
            self.note(before.token + 1, before.authority, after, verb=verb, detail=detail or {})
        return before.token + 1

    def begin_restore(self, before: Migration, restoring: Restoring) -> int:
        """-> TO_SOURCE, from where only this restore leads on. Without a lease: nobody takes it back by itself. In the
        caller's transaction if one is open. Returns the new token."""
        document = asdict(restoring)
        also = {"restoring": f"{text_beside_parameters(json.dumps(document))}::jsonb", "read_share": "0"}
        return self.move(before, Authority.TO_SOURCE, verb="restore", also=also, detail=document)

    def begin_again(self, before: Migration, token: int, *, reason: str) -> None:
        """(anything, n) -> (source, token): a server that lost moves goes on behind the last one that the sources have
        seen. No move of the protocol: a person said so. In the caller's transaction."""
        self._brace()
        changed = self._target.run(
            "UPDATE tailrace.migration SET authority = 'source', token = %s, drained = false, owner = '', "
            "lease_until = NULL, read_share = 0, no_rollback = '{}', restoring = NULL, failed = %s "
            "WHERE id = 1 AND authority = %s AND token = %s",
            (token, reason, before.authority, before.token),
        )
        if changed != 1:
            raise self._moved(before)
        self._target.run("UPDATE tailrace.progress SET phase = 'source' WHERE phase <> 'paused'")
        # What was proven equal was proven of another history.
        self._target.run("DELETE FROM tailrace.verdicts")
        self.note(token, before.authority, Authority.SOURCE, verb="accept-lost", detail={"reason": reason})

    def _brace(self) -> None:
        """A move counts only once it is on the disk: a crash that took it back after the other side had opened would
        leave two writable sides. And it holds the row: should this process fall silent in the middle, the server ends its
        session, or nobody could take the move back (test_a_switch_that_falls_silent_in_the_middle_of_the_open_is_taken_back).
        """
        self._target.run(f"SET LOCAL idle_in_transaction_session_timeout = {SILENT_MS}")
        self._target.rows(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        )

    def hold_restore(self, token: int) -> None:
        """Raises Superseded where this restore is no longer the way on."""
        found = self.read()
        if found.token != token or found.restoring is None:
            raise self._lost(token)

    def hold(self, token: int) -> None:
        """In the caller's transaction: writes belong to the source under this token, and nobody moves that before it ends."""
        found = self._target.rows("SELECT authority, token FROM tailrace.migration WHERE id = 1 FOR UPDATE")
        if not found or (found[0][0], found[0][1]) != (Authority.SOURCE, token):
            raise self._lost(token)

    def set(self, token: int, assignments: Mapping[str, str], *, verb: str, detail: Mapping[str, Any]) -> None:
        """Change something beside the authority, as long as the token is this one. Values are SQL expressions."""
        text = ", ".join(f"{column} = {expression}" for column, expression in assignments.items())
        with self._target.transaction():
            if self._target.run(f"UPDATE tailrace.migration SET {text} WHERE id = 1 AND token = %s", (token,)) != 1:
                raise self._lost(token)
            row = self._target.rows("SELECT authority FROM tailrace.migration WHERE id = 1")[0]
            self.note(token, row[0], row[0], verb=verb, detail=detail)

    def lose(self, token: int, lost: Mapping[str, str]) -> None:
        """What the way back does not carry any more -> why; what is known already is written once."""
        known = self.read().no_rollback
        fresh = {what: why for what, why in lost.items() if what not in known}
        if fresh:
            text = text_beside_parameters(json.dumps(fresh))
            self.set(token, {"no_rollback": f"no_rollback || {text}::jsonb"}, verb="no-rollback", detail=fresh)

    def renew(self, token: int, *, lease_s: float) -> None:
        """Keep the lease of a move that is under way; Superseded when somebody recovered it meanwhile."""
        changed = self._target.run(
            f"UPDATE tailrace.migration SET lease_until = clock_timestamp() + interval '{float(lease_s)} seconds' "
            "WHERE id = 1 AND token = %s AND owner = %s",
            (token, self._actor),
        )
        if changed != 1:
            raise self._lost(token)

    def adopt(self, before: Migration, *, lease_s: float) -> None:
        """Take over the lease of a move that its owner left. Raises Superseded when that one is still alive."""
        changed = self._target.run(
            f"UPDATE tailrace.migration SET owner = %s, lease_until = clock_timestamp() + interval '{float(lease_s)} "
            "seconds' WHERE id = 1 AND token = %s AND (owner = %s OR lease_until IS NULL OR "
            "lease_until < clock_timestamp())",
            (self._actor, before.token, self._actor),
        )
        if changed != 1:
            raise self._lost(before.token)

    def note(self, token: int, before: str, after: str, *, verb: str, detail: Mapping[str, Any]) -> None:
        self._target.run(
            "INSERT INTO tailrace.journal(token, before, after, verb, actor, detail) VALUES (%s, %s, %s, %s, %s, %s)",
            (token, str(before), str(after), verb, self._actor, json.dumps(dict(detail))),
        )

    def _moved(self, before: Migration) -> Superseded:
        now = self.read()
        return Superseded(
            Code.AUTHORITY_MOVED,
            f"the migration is at ({now.authority}, {now.token}), not at ({before.authority}, {before.token}) any more",
            position=now.token,
            hint="somebody else moved it: tailrace status",
        )

    def _lost(self, token: int) -> Superseded:
        return Superseded(
            Code.AUTHORITY_MOVED,
            f"token {token} is no longer the one in force",
            position=token,
            hint="somebody else moved the migration: tailrace status",
        )
