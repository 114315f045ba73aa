"""Do: name what a source keeps beside its ordinary tables, and what that takes after rows came back.

Invariant: nothing of it is touched: only the application knows what it keeps there.
"""

from __future__ import annotations

from cli.wiring import open_source
from ops.config import Config
from schemas.advice import of_virtual_after_return
from schemas.errors import TailraceError
from schemas.introspect import introspect


def virtual_tables(config: Config) -> dict[str, str]:
    """`source.table` -> what to do with it after a rollback; a source that cannot be read says so."""
    found = {}
    for name in config.source_databases:
        try:
            db = open_source(config, name)
            try:
                with db.read_view():
                    objects = introspect(db).objects
            finally:
                db.close()
        except TailraceError as error:
            found[name] = f"its full-text indexes could not be listed: {error.message}"
            continue
        found |= {f"{name}.{one.name}": of_virtual_after_return(one) for one in objects if one.kind == "virtual"}
    return found
