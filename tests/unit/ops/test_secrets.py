"""Where secrets come from, and that they go nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ops.config import Config, TransportConfig
from ops.secrets import places, resolve, resolve_url
from schemas.errors import Code, ConfigError

AWKWARD = "p@ss/w:rd?#% 'x\\"
ESCAPED = "p%40ss%2Fw%3Ard%3F%23%25%20%27x%5C"


def test_environment_file_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_A", "one")
    (tmp_path / "two").write_text("t w o\n")
    text = (
        f"${{TAILRACE_A}} ${{file:two}} ${{file:{tmp_path}/two}} ${{command:{sys.executable} -c 'print(3)'}} ${{1}} $x"
    )
    assert "one t w o t w o 3 ${1} $x" == resolve(text, folder=tmp_path)
    assert ["TAILRACE_A", "file:two"] == places(text)[:2]


def test_a_secret_in_a_url_may_hold_any_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", AWKWARD)
    monkeypatch.setenv("HOSTS", "db1:5432,db2:5432")
    cases = {
        "postgresql://u:${PW}@${HOSTS}/db": f"postgresql://u:{ESCAPED}@db1:5432,db2:5432/db",
        "postgresql://db/x?password=${PW}": f"postgresql://db/x?password={ESCAPED}",
        "host=db password=${PW}": "host=db password=p@ss/w:rd?#%\\ \\'x\\\\",
        "${PW}": AWKWARD,
    }
    assert cases == {text: resolve_url(text, folder=tmp_path) for text in cases}


@pytest.mark.parametrize(
    "place",
    ["TAILRACE_NO_SUCH", "file:nosuch", "command:nosuch-command-of-ours", "command:sh -c 'echo hunter2; exit 3'"],
)
def test_what_cannot_be_had_is_named_and_nothing_it_says(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(f"${{{place}}}", folder=tmp_path)
    assert Code.SECRET_MISSING == caught.value.code
    assert ["hunter2" in place] == ["hunter2" in str(caught.value)]
    assert place.partition(":")[2].split(" ")[0] in caught.value.message


def test_a_secret_is_read_at_every_use_and_kept_nowhere(tmp_path: Path) -> None:
    client: dict[str, str | int | float | bool] = {"sasl_plain_password": "${file:pw}", "ssl_check_hostname": True}
    url = "postgresql://u:${file:pw}@h/d"
    config = Config({"a": "a.db"}, url, folder=str(tmp_path), transport=TransportConfig("kafka", client=client))
    for secret in ("first-one", "second-one"):
        (tmp_path / "pw").write_text(secret)
        assert {"sasl_plain_password": secret, "ssl_check_hostname": True} == config.client_settings()
        assert f"postgresql://u:{secret}@h/d" == config.target_url()
        assert secret not in repr(config)
