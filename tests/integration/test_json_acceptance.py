"""What the json codec accepts, every supported PostgreSQL takes too, byte for byte."""

from __future__ import annotations

import pytest

from adapters.postgres import Postgres
from schemas.codecs_json import is_json

DOCUMENTS = (
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\ud83d\\ude42"', '"\x7f\u2028"', "-0", "-0.0E+5", "1e400"),
    *("1" * 5000, "0." + "1" * 5000, "[" * 900 + "]" * 900, ' {"a" :\t1,\r\n"a":2} ', "null", "true", '""', "[[],{}]"),
    *('{"":{"":""}}', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', "\n1\n", "1E+5", '"\ufeff"'),
)
NOT_JSON = (
    "",
    " ",
    "\ufeff1",
    "NaN",
    "Infinity",
    "-",
    "01",
    "1.",
    ".5",
    "+1",
    "'a'",
    '"\n"',
    '"\\x"',
    "[1,]",
    "{1:2}",
    "1 2",
    "\x0b1",
    "\xa01",
    "\u0661",
    "tru",
)


def test_what_is_accepted_is_kept_to_the_byte(versioned_database: tuple[str, str]) -> None:
    _, url = versioned_database
    target = Postgres(url, application_name="tests")
    target.run("CREATE TABLE d(at bigint, v json)")
    accepted = [text for text in DOCUMENTS if is_json(text)]
    assert list(DOCUMENTS) == accepted
    target.copy_in("COPY d FROM STDIN (FORMAT BINARY)", ("bigint", "json"), list(enumerate(accepted)))
    assert list(enumerate(accepted)) == target.rows("SELECT at, v FROM d ORDER BY at")
    target.close()


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_no_json_stays_text(text: str) -> None:
    assert not is_json(text)
