"""Decide: the one place that says how a value crosses from SQLite to PostgreSQL and back.

Invariant: `decode(from_pg(to_pg(encode(v))))` has the same storage class and the same bytes as `v`, for every value
that the codec accepts. A codec is chosen only if every profiled value survives that round trip; a later value that does
not fit widens the column (`widen`, `join`), it is never changed to fit.
Trap: the declared name is not the affinity: STRING, UUID and JSON are NUMERIC, and '007' is stored in them as 7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from schemas.codecs import BLOB, BOOLEAN, DOUBLE, LONG, PLAIN, TEXT, TEXT_BYTES, Codec, fits
from schemas.codecs_dates import DATE, loosened, timestamp
from schemas.codecs_json import JSON, JSONB
from schemas.codecs_numbers import AFFINITY_TEXT, LOOSE_TEXT, NUMERIC
from schemas.model import Affinity, Column, Value
from schemas.policy import ColumnPolicy
from schemas.profile import ColumnProfile

__all__ = ["Codec", "choose", "codec", "fits", "is_decimal", "join", "widen", "wider"]

_CODECS = {one.name: one for one in (*PLAIN, NUMERIC, *AFFINITY_TEXT, DATE, JSON, JSONB, LOOSE_TEXT)}
_NUMBERS = (Affinity.INTEGER, Affinity.NUMERIC, Affinity.REAL)
_EXACT = (Affinity.INTEGER, Affinity.NUMERIC)
"""Affinities that store an integral real as an integer, so that numeric tells the classes apart."""


def codec(name: str) -> Codec:
    """Raises KeyError for a codec of a newer format."""
    found = _CODECS.get(name)
    return found if found is not None else timestamp(name)


def is_decimal(column: Column) -> bool:
    """Declared DECIMAL or NUMERIC: amounts, whose fraction must not wait for a retype."""
    return column.affinity is Affinity.NUMERIC and column.declared.upper().startswith(("DEC", "NUMERIC"))


def choose(
    column: Column,
    profile: ColumnProfile,
    *,
    in_key: bool,
    indexed: bool = False,
    policy: ColumnPolicy | None = None,
) -> tuple[Codec, str]:
    """The codec of a column and one sentence why.

    Args:
        in_key: keys never become boolean or json.
        indexed: json has no order, so an indexed column stays text.
        policy: None: the defaults.
    """
    policy = policy or ColumnPolicy()
    if policy.type:
        ordered = _ordered(policy.type, column, profile, policy)
        if ordered is not None:
            return ordered, f'ordered: type = "{policy.type}"'
    if profile.awkward_text and policy.on_nul == "quarantine":
        kept = f'; {profile.awkward_text:,} texts with a NUL or not UTF-8 stay behind: on_nul = "quarantine"'
        found, why = choose(column, replace(profile, awkward_text=0), in_key=in_key, indexed=indexed, policy=policy)
        return found, why + kept
    return _by_profile(column, profile, policy, in_key=in_key, indexed=indexed)


def _by_profile(
    column: Column, profile: ColumnProfile, policy: ColumnPolicy, *, in_key: bool, indexed: bool
) -> tuple[Codec, str]:
    classes = profile.classes
    storage = policy.types == "storage"
    if not classes:
        return _when_empty(column, plain=in_key or indexed or storage, storage=storage)
    decimal = is_decimal(column) and not storage and not (in_key and classes == {"int"})
    if decimal and classes <= {"int", "real"} and not profile.infinite:
        return NUMERIC, "declared DECIMAL or NUMERIC, numbers only: exact"
    if classes == {"int"}:
        if "BOOL" in column.declared.upper() and profile.small_ints and not in_key and not storage:
            return BOOLEAN, "declared BOOLEAN and only 0 and 1"
        return LONG, "only integers"
    if classes == {"real"}:
        return DOUBLE, "only reals"
    if classes == {"blob"}:
        return BLOB, "only blobs"
    if classes == {"text"}:
        return _of_text(profile, json=not (in_key or indexed or storage), dates=not storage)
    if classes == {"int", "real"} and column.affinity in _EXACT and not profile.infinite:
        return NUMERIC, f"integers and reals: {column.affinity} affinity restores the class"
    if "blob" not in classes and column.affinity in _NUMBERS and not profile.awkward_text:
        mixed = " and ".join(sorted(classes))
        return codec(f"affinity-text:{column.affinity}"), f"{mixed}: {column.affinity} affinity restores the class"
    mix = f"a mix of {', '.join(sorted(classes))} in {column.affinity} affinity"
    if policy.on_mixed == "text" and "blob" not in classes and not profile.awkward_text and not (in_key or indexed):
        return LOOSE_TEXT, f'{mix}: on_mixed = "text", the class of numbers is not kept'
    if policy.on_mixed == "refuse":
        most = max(
            (profile.ints, LONG), (profile.reals, DOUBLE), (profile.texts, TEXT), (profile.blobs, BLOB), key=_first
        )
        return most[1], f'{mix}: on_mixed = "refuse", what does not fit stays behind'
    return JSONB, mix


def _first(pair: tuple[int, Codec]) -> int:
    return pair[0]


def _ordered(kind: str, column: Column, profile: ColumnProfile, policy: ColumnPolicy) -> Codec | None:
    """The codec of an ordered type; None where the profile shows that no codec of that type carries the values."""
    classes = profile.classes
    if kind == "text":
        if classes <= {"text"} and not profile.awkward_text:
            return TEXT
        if column.affinity in _NUMBERS and "blob" not in classes and not profile.awkward_text:
            return codec(f"affinity-text:{column.affinity}")
        return LOOSE_TEXT if policy.on_mixed == "text" and "blob" not in classes else None
    if kind == "bytea":
        return BLOB if classes <= {"blob"} else TEXT_BYTES if classes == {"text"} else None
    if kind == "timestamp":
        form = profile.form or ("" if classes else "timestamp:_0")
        return codec(form) if form.startswith("timestamp:") else None
    plain = {"bigint": LONG, "boolean": BOOLEAN, "double precision": DOUBLE, "numeric": NUMERIC, "date": DATE}
    return {**plain, "json": JSON, "jsonb": JSONB}[kind]


def _of_text(profile: ColumnProfile, *, json: bool, dates: bool) -> tuple[Codec, str]:
    if profile.awkward_text:
        return TEXT_BYTES, "text with NUL or invalid UTF-8: its bytes are kept"
    if profile.form == JSON.name and json:
        return JSON, "declared JSON and valid throughout: its bytes are kept"
    if profile.form and profile.form != JSON.name and dates:
        return codec(profile.form), "one strict ISO form throughout, remembered for the way back"
    return TEXT, "only text"


def _when_empty(column: Column, *, plain: bool, storage: bool) -> tuple[Codec, str]:
    declared = column.declared.upper()
    if column.affinity is Affinity.INTEGER:
        return LONG, "no values yet, declared integer"
    if column.affinity is Affinity.REAL:
        return DOUBLE, "no values yet, declared real"
    if column.affinity is Affinity.BLOB and "BLOB" in declared:
        return BLOB, "no values yet, declared BLOB"
    if column.affinity is Affinity.NUMERIC and "BOOL" in declared and not plain:
        return BOOLEAN, "no values yet, declared BOOLEAN"
    if is_decimal(column) and not storage:
        return NUMERIC, "no values yet, declared DECIMAL or NUMERIC"
    if "JSON" in declared and not plain:
        return JSON, "no values yet, declared JSON"
    return TEXT, "no values yet"


def widen(name: str, values: Iterable[Value], affinity: Affinity, *, shut: Collection[str] = frozenset()) -> str | None:
    """The narrowest codec, none of `shut`, that carries what `name` carried and these values too; None: there is none."""
    seen = list(values)
    steps = (one for one in wider(name, affinity) if one not in shut)
    return next((one for one in steps if all(fits(codec(one), value) for value in seen)), None)


def wider(name: str, affinity: Affinity | None) -> list[str]:
    """Codecs that accept everything `name` accepts of what a column of this affinity can hold, narrowest first.

    `affinity` None: not known; only what holds for every column.
    """
    mixed = [f"affinity-text:{affinity}"] if affinity in _NUMBERS else []
    exact = affinity in _EXACT
    if name == BOOLEAN.name:
        return [name, *wider(LONG.name, affinity)]
    if name == LONG.name:
        return [name, *([NUMERIC.name, *mixed] if exact else [NUMERIC.name] if affinity is None else []), JSONB.name]
    if name == NUMERIC.name:
        return [name, *(mixed if exact else []), JSONB.name]
    if name == DOUBLE.name:
        return [name, *mixed, JSONB.name]
    if name == TEXT.name:
        return [name, TEXT_BYTES.name, *mixed, JSONB.name]
    if name in (DATE.name, JSON.name) or name.startswith("timestamp:"):
        # Whole seconds are a case of the form that leaves zeros out; 6 digits are not: they may be '.000000'.
        loose = [loosened(name)] if loosened(name) != name else []
        return [name, *loose, *wider(TEXT.name, affinity)]
    return [name, JSONB.name] if name != JSONB.name else [name]


def join(one: str, other: str, affinity: Affinity | None = None) -> str:
    """Narrowest codec that carries everything both carry (without values at hand)."""
    if affinity is None:
        # An affinity codec among the two says which affinity the column has.
        known = {name.partition(":")[2] for name in (one, other) if name.startswith("affinity-text:")}
        affinity = Affinity(known.pop()) if len(known) == 1 else None
    if LOOSE_TEXT.name in (one, other):
        # Beside what text cannot hold, and beside jsonb, the class is kept from now on.
        rest = other if one == LOOSE_TEXT.name else one
        return LOOSE_TEXT.name if rest not in (BLOB.name, TEXT_BYTES.name, JSONB.name) else JSONB.name
    above = wider(other, affinity)
    return next(name for name in wider(one, affinity) if name in above)
