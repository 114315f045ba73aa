"""Do: read the value of every gate, from one look at both sides; cutover/gates.py judges."""

from __future__ import annotations

from cli.look import Looker
from cutover.gates import Gate, gate
from ops.config import Config


def all_gates(config: Config) -> list[Gate]:
    """In the order in which they are printed."""
    looker = Looker(config, list(config.source_databases))
    try:
        document = looker.look()
    finally:
        looker.close()
    gates = [
        gate(
            f"lag {name}",
            None if one["lag_changes"] is None else one["lag_changes"] <= config.limits.max_lag_changes,
            "unknown" if one["lag_changes"] is None else f"{one['lag_changes']} changes",
            f"<= {config.limits.max_lag_changes} changes",
            next_step="tailrace status: do capture and sink run?",
        )
        for name, one in document["sources"].items()
    ]
    gates += [
        gate("status", False, reason, "nothing that blocks", next_step=document["next_steps"][0])
        for reason in document["blocking_reasons"]
    ]
    return gates
