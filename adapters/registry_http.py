"""Do: Avro schemas in a registry that speaks Confluent's HTTP calls; ids are the registry's own.

Invariant: an id means something only in the registry that gave it, so the stream keeps a witness beside it (one id and
the digest of its schema): another registry, or the schemas topic, is refused instead of decoding rows with a strange
schema (test_another_registry_behind_the_same_stream_is_refused).
Trap: registries refuse incompatible versions by default, and our widenings are meant to be incompatible: the level of a
subject is set to NONE when it is first used, not when a widening stops in mid-stream
(test_a_widening_passes_a_registry_that_asks_for_compatibility).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from schemas.change import Message
from schemas.errors import Code, Failed, Refusal, Transient
from schemas.ports import TopicSettings, Transport
from schemas.streaming import read_tail

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 << 20
"""A schema is some kB; what is larger does not come from a registry."""
LEVEL = "NONE"
_LATER = frozenset({408, 425, 429})
WITNESS_KEY = b"registry"


class _Answer(NamedTuple):
    status: int
    document: Any


class HttpRegistry:
    """Implements ports.Registry. Opens no connection before it is asked.

    Args:
        url: of the calls themselves, e.g. `https://registry:8081` or `http://host/apis/ccompat/v7`; without credentials.
        transport, topic: the stream whose records carry the ids; its schemas topic keeps the witness.
        login: asked at every request, so that a rotated password is read again; an empty name: no authentication.
        ca_file: certificates to trust instead of the system's.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        topic: str,
        *,
        login: Callable[[], tuple[str, str]] = lambda: ("", ""),
        ca_file: str = "",
    ) -> None:
        self._url = url.rstrip("/")
        self._transport = transport
        self._topic = topic
        self._login = login
        self._ca_file = ca_file
        self._ids: dict[tuple[str, str], int] = {}
        self._texts: dict[int, str] = {}
        self._open: set[str] = set()
        self._known = False

    def identity(self) -> dict[str, str]:
        """Its ids are told by the witness, not by a topic."""
        return {}

    def register(self, subject: str, schema: str) -> int:
        self._know()
        found = self._ids.get((subject, schema))
        if found is not None:
            return found
        path = f"/subjects/{quote(subject, safe='')}/versions"
        relaxed = self._relax(subject)
        answer = self._ask("POST", path, {"schema": schema})
        if answer.status == 409 or not relaxed:
            # The level was raised since, or the registry knows none of a subject without a version.
            self._open.discard(subject)
            self._relax(subject)
        if answer.status == 409:
            answer = self._ask("POST", path, {"schema": schema})
        schema_id = answer.document.get("id") if isinstance(answer.document, dict) else None
        if answer.status != 200 or type(schema_id) is not int or not 0 < schema_id < 2**31:
            raise self._refused("POST", path, answer)
        self._check_kept(schema_id, subject, schema)
        # Before the id leaves for the first record: afterwards nobody could tell whose id it is.
        self._attest(schema_id, subject, schema)
        self._ids[subject, schema] = schema_id
        return schema_id

    def schema(self, schema_id: int) -> str:
        self._know()
        found = self._texts.get(schema_id)
        if found is None:
            found = self._schema(schema_id)
            if found is None:
                raise Failed(
                    Code.SCHEMA_UNKNOWN,
                    f"schema id {schema_id} is not in the registry {self._url}",
                    hint="the records and their schemas must come from the same registry: check registry.url",
                )
            self._texts[schema_id] = found
        return found

    def latest(self, subject: str) -> str | None:
        self._know()
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        answer = self._ask("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused("GET", path, answer)
        return str(answer.document["schema"])

    # -- what a registry must be like ----------------------------------------------------------------------------

    def _relax(self, subject: str) -> bool:
        """Let the subject take any next version. False: the registry does not know the subject yet."""
        if subject in self._open:
            return True
        level = self._level(subject)
        if level != LEVEL:
            path = f"/config/{quote(subject, safe='')}"
            put = self._ask("PUT", path, {"compatibility": LEVEL}, forbidden_is_answer=True)
            if put.status == 404:
                return False
            # Apicurio says yes and lets its global rule go on: what counts is the level afterwards.
            if put.status != 200 or (level := self._level(subject)) != LEVEL:
                raise Refusal(
                    Code.REGISTRY_REFUSED,
                    f"subject {subject} has compatibility {level}, and setting it to {LEVEL} did not change that "
                    f"({_said(put)}): a column that must widen would stop the stream",
                    hint=f"set the compatibility of this subject, or the registry's own, to {LEVEL}",
                )
        self._open.add(subject)
        return True

    def _level(self, subject: str) -> str:
        """The level in force: of the subject, else the registry's own."""
        path = f"/config/{quote(subject, safe='')}?defaultToGlobal=true"
        answer = self._ask("GET", path)
        if answer.status == 404:
            path = "/config"
            answer = self._ask("GET", path)
        level = answer.document.get("compatibilityLevel") if isinstance(answer.document, dict) else None
        if answer.status != 200 or not level:
            raise self._refused("GET", path, answer)
        return str(level)

    def _check_kept(self, schema_id: int, subject: str, schema: str) -> None:
        """The sink lives on the properties of the fields: a registry that drops them is none for us."""
        text = self._schema(schema_id)
        if text is None or json.loads(text) != json.loads(schema):
            raise Refusal(
                Code.REGISTRY_REFUSED,
                f"the registry does not give the schema of {subject} back as it was registered (id {schema_id})",
                hint="switch its normalisation off, or leave registry.url empty: schemas then live in the stream",
            )
        self._texts[schema_id] = text

    # -- the witness ---------------------------------------------------------------------------------------------

    def _know(self) -> bool:
        """Is there a witness? Raises Refusal(REGISTRY_OTHER) where the ids of this stream are not of this registry."""
        if self._known:
            return True
        witness = self._witness()
        if witness is None:
            return False
        if "registry" not in witness:
            raise Refusal(
                Code.REGISTRY_OTHER,
                f"the schemas of this stream live in its own topic {self._topic}, not in {self._url}",
                hint="leave registry.url empty, or begin a new stream with another transport.prefix",
            )
        text = self._schema(witness["id"])
        if text is None or _digest(text) != witness["digest"]:
            raise Refusal(
                Code.REGISTRY_OTHER,
                f"schema id {witness['id']} of {witness['subject']} is another one in {self._url}: "
                f"this stream was written with the registry {witness['registry']}",
                hint="set registry.url back; a registry that moved must bring its ids along",
            )
        self._known = True
        return True

    def _attest(self, schema_id: int, subject: str, schema: str) -> None:
        if self._known:
            return
        self._transport.create_topics({self._topic: TopicSettings(partitions=1, compacted=False)})
        if self._know():
            return
        witness = {"registry": self._url, "id": schema_id, "subject": subject, "digest": _digest(schema)}
        self._transport.send([Message(self._topic, WITNESS_KEY, json.dumps(witness).encode(), partition=0)])
        self._known = True

    def _witness(self) -> dict[str, Any] | None:
        """The first record tells: ids of one registry agree or do not."""
        if self._topic not in self._transport.topics(self._topic):
            return None
        for stored in read_tail(self._transport, self._topic):
            return dict(json.loads(stored.value or b"{}"))
        return None

    # -- HTTP ----------------------------------------------------------------------------------------------------

    def _schema(self, schema_id: int) -> str | None:
        path = f"/schemas/ids/{schema_id}"
        answer = self._ask("GET", path)
        if answer.status == 404:
            return None
        kind = answer.document.get("schemaType", "AVRO") if isinstance(answer.document, dict) else None
        if answer.status != 200 or kind != "AVRO":
            raise self._refused("GET", path, answer)
        return str(answer.document["schema"])

    def _ask(self, method: str, path: str, body: object = None, *, forbidden_is_answer: bool = False) -> _Answer:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": f"{CONTENT_TYPE}, application/json", "Content-Type": CONTENT_TYPE},
        )
        user, password = self._login()
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")
        # No redirects and no proxies: the password goes to the configured address or nowhere.
        opener = urllib.request.OpenerDirector()
        opener.add_handler(self._connections())
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                status, raw = int(response.status), response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise Failed(
                    Code.REGISTRY_DENIED,
                    f"the certificate of {self._url} is not accepted: {reason.verify_message}",
                    hint="set registry.ca_file, or renew the certificate; it is tried again",
                ) from error
            raise self._away(f"{type(reason).__name__}: {reason}") from error
        if status >= 500 or status in _LATER:
            raise self._away(f"it answered {status}")
        if status == 401 or (status == 403 and not forbidden_is_answer):
            raise Failed(
                Code.REGISTRY_DENIED,
                f"the registry {self._url} answered {status} to this user",
                hint="check registry.username and the variable in registry.password; both are read again each time",
            )
        try:
            return _Answer(status, json.loads(raw))
        except ValueError:
            return _Answer(status, None)

    def _connections(self) -> urllib.request.BaseHandler:
        """The file is read at every request: a renewed certificate counts at once."""
        if not self._url.startswith("https:"):
            return urllib.request.HTTPHandler()
        try:
            return urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self._ca_file or None))
        except OSError as error:  # an ssl.SSLError is one
            raise Failed(
                Code.REGISTRY_DENIED,
                f"registry.ca_file {self._ca_file} cannot be used: {error.strerror or type(error).__name__}",
                hint="name a readable file of PEM certificates; it is read again at the next request",
            ) from error

    def _away(self, why: str) -> Transient:
        return Transient(
            Code.REGISTRY_UNREACHABLE,
            f"the schema registry {self._url} is away ({why})",
            hint="it is tried again; check the registry",
        )

    def _refused(self, method: str, path: str, answer: _Answer) -> Refusal:
        return Refusal(
            Code.REGISTRY_REFUSED,
            f"{method} {self._url}{path}: {_said(answer)}",
            hint="check registry.url: it must answer Confluent's calls (Apicurio: /apis/ccompat/v7)",
        )


def _said(answer: _Answer) -> str:
    text = answer.document.get("message", "") if isinstance(answer.document, dict) else ""
    return f"it answered {answer.status} {str(text)[:300]}".strip()


def _digest(schema: str) -> str:
    """Of what the text means: registries may lay it out anew."""
    return hashlib.sha256(json.dumps(json.loads(schema), sort_keys=True).encode()).hexdigest()
