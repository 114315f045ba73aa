"""Decide: the answers to the read calls of Confluent's registry, from what the schemas topic holds; pure.

Invariant: what is answered for an id never changes; nothing can be written (42205, as a registry in mode READONLY says).
Trap: two writers may have registered one schema twice: both ids answer, and it is one version of its subject
(test_a_schema_that_was_registered_twice_is_one_version).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

Known = Mapping[int, tuple[str, str]]
"""id -> (subject, schema)."""


class Answered(NamedTuple):
    status: int
    document: Any


class _No(Exception):
    """An answer of Confluent's error form."""

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answered(error_code // 100 if error_code > 999 else error_code, _error(error_code, message))


def _error(error_code: int, message: str) -> dict[str, Any]:
    return {"error_code": error_code, "message": message}


def answered(known: Known, method: str, target: str, body: bytes = b"") -> Answered:
    """The answer to one request; `target` as it stands in the request line."""
    split = urlsplit(target)
    parts = [unquote(part) for part in split.path.strip("/").split("/")]
    query = {name: values[-1] for name, values in parse_qs(split.query).items()}
    path = "/".join(_PLACES.get((at, parts[0]), part) for at, part in enumerate(parts))
    try:
        if method == "POST" and path == "subjects/*":
            return Answered(200, _looked_up(known, parts[1], body))
        if method != "GET":
            raise _No(42205, "this registry is read-only: schemas are registered by tailrace capture")
        for pattern, call in _CALLS.items():
            if re.fullmatch(pattern, path):
                return Answered(200, call(known, parts, query))
        raise _No(404, "HTTP 404 Not Found")
    except _No as no:
        return no.answer


def answers_without_looking(known: Known, target: str) -> bool:
    """Is this an id that is known already? It never changes, and consumers ask for little else."""
    found = re.fullmatch(r"/schemas/ids/([0-9]{1,10})(?:/schema)?(?:\?.*)?", target)
    return found is not None and int(found[1]) in known


_PLACES = {(1, "subjects"): "*", (1, "config"): "*", (1, "mode"): "*"}
"""Parts of a path that are names, so that one called "versions" is no call."""


# -- schemas by id -------------------------------------------------------------------------------------------------


def _by_id(known: Known, text: str) -> tuple[str, str]:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise _No(404, "HTTP 404 Not Found")
    found = known.get(int(text))
    if found is None:
        raise _No(40403, f"Schema {text} not found")
    return found


def _schema(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    return {"schema": _by_id(known, parts[2])[1]}


def _schema_alone(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    return json.loads(_by_id(known, parts[2])[1])


def _subjects_of_id(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    return [_by_id(known, parts[2])[0]]


def _versions_of_id(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    subject, schema = _by_id(known, parts[2])
    texts = [text for _, text in _versions(known, subject)]
    return [{"subject": subject, "version": texts.index(schema) + 1}]


# -- subjects ------------------------------------------------------------------------------------------------------


def _versions(known: Known, subject: str) -> list[tuple[int, str]]:
    """(id, schema) of every version, the first id of each schema."""
    found: dict[str, int] = {}
    for schema_id, (name, schema) in sorted(known.items()):
        if name == subject:
            found.setdefault(schema, schema_id)
    if not found:
        raise _No(40401, f"Subject '{subject}' not found.")
    return [(schema_id, schema) for schema, schema_id in found.items()]


def _subjects(known: Known, _: list[str], query: Mapping[str, str]) -> Any:
    prefix = query.get("subjectPrefix", "")
    return sorted({name for name, _ in known.values() if name.startswith(prefix)})


def _version_numbers(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    return list(range(1, len(_versions(known, parts[1])) + 1))


def _version(known: Known, parts: list[str], _: Mapping[str, str]) -> Any:
    versions = _versions(known, parts[1])
    wanted = "-1" if parts[3] == "latest" else parts[3]
    if not re.fullmatch(r"-1|[0-9]{1,10}", wanted) or wanted == "0":
        raise _No(42202, f"The specified version '{parts[3]}' is not a valid version id.")
    number = len(versions) if wanted == "-1" else int(wanted)
    if number > len(versions):
        raise _No(40402, f"Version {number} not found.")
    schema_id, schema = versions[number - 1]
    return {"subject": parts[1], "version": number, "id": schema_id, "schema": schema}


def _version_alone(known: Known, parts: list[str], query: Mapping[str, str]) -> Any:
    return json.loads(_version(known, parts, query)["schema"])


def _looked_up(known: Known, subject: str, body: bytes) -> Any:
    """Which version is this schema? Compared by what the JSON means: clients lay it out anew."""
    versions = _versions(known, subject)
    try:
        wanted = json.loads(json.loads(body)["schema"])
    except (ValueError, TypeError, KeyError) as error:
        raise _No(42201, "Invalid schema: the body must be a JSON object with a schema") from error
    for number, (schema_id, schema) in enumerate(versions, 1):
        if json.loads(schema) == wanted:
            return {"subject": subject, "version": number, "id": schema_id, "schema": schema}
    raise _No(40403, "Schema not found")


# -- settings ------------------------------------------------------------------------------------------------------


def _subject_level(known: Known, parts: list[str], query: Mapping[str, str]) -> Any:
    if query.get("defaultToGlobal", "").lower() != "true":
        _versions(known, parts[1])
        raise _No(40408, f"Subject '{parts[1]}' does not have subject-level compatibility configured")
    return {"compatibilityLevel": "NONE"}


def _subject_mode(known: Known, parts: list[str], query: Mapping[str, str]) -> Any:
    if query.get("defaultToGlobal", "").lower() != "true":
        _versions(known, parts[1])
        raise _No(40409, f"Subject '{parts[1]}' does not have subject-level mode configured")
    return {"mode": "READONLY"}


_Call = Callable[[Known, list[str], Mapping[str, str]], Any]
_CALLS: dict[str, _Call] = {
    "": lambda *_: {},
    "schemas/types": lambda *_: ["AVRO"],
    "schemas/ids/[^/]*": _schema,
    "schemas/ids/[^/]*/schema": _schema_alone,
    "schemas/ids/[^/]*/subjects": _subjects_of_id,
    "schemas/ids/[^/]*/versions": _versions_of_id,
    "subjects": _subjects,
    r"subjects/\*/versions": _version_numbers,
    r"subjects/\*/versions/[^/]*": _version,
    r"subjects/\*/versions/[^/]*/schema": _version_alone,
    "config": lambda *_: {"compatibilityLevel": "NONE"},
    r"config/\*": _subject_level,
    "mode": lambda *_: {"mode": "READONLY"},
    r"mode/\*": _subject_mode,
    "contexts": lambda *_: ["."],
}
