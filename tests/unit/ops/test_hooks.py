"""Commands and URLs at named events."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ops.config import parse
from ops.config_hooks import HooksConfig
from ops.hooks import Hooks
from schemas.errors import Code, ConfigError, Failed

Said = list[tuple[str, str, str]]


def hooks_of(folder: Path, said: Said, config: HooksConfig) -> Hooks:
    return Hooks(
        config,
        folder=folder,
        secret=lambda text: text.replace("${TOKEN}", "s3cret"),
        say=lambda action, text, level: said.append((action, text, level)),
    )


def script(folder: Path, body: str, name: str = "hook.py") -> str:
    (folder / name).write_text(body)
    return f"{sys.executable} {name}"


@contextmanager
def server(status: int, seen: list[tuple[str, bytes]]) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_a_command_is_told_what_happened_without_a_shell(tmp_path: Path) -> None:
    said: Said = []
    body = (
        "import json, os, pathlib, sys\n"
        "told = [sys.argv[1:], os.environ['TAILRACE_EVENT'], os.environ['TAILRACE_REASON'], json.load(sys.stdin)]\n"
        "pathlib.Path('told').write_text(json.dumps(told))\n"
    )
    hook = script(tmp_path, body) + " '$HOME; rm -rf x' two"
    hooks_of(tmp_path, said, HooksConfig(failed=[hook])).run("failed", token=7, reason="a; b")
    expected = [["$HOME; rm -rf x", "two"], "failed", "a; b", {"event": "failed", "token": 7, "reason": "a; b"}]
    assert expected == json.loads((tmp_path / "told").read_text())
    assert [("hook.ran", "failed 1 of 1 (a command)", "info")] == said


def test_a_url_gets_the_event_and_no_error_names_its_secret(tmp_path: Path) -> None:
    said: Said = []
    seen: list[tuple[str, bytes]] = []
    with server(200, seen) as url:
        hooks_of(tmp_path, said, HooksConfig(after_open=[f"{url}/${{TOKEN}}"])).run("after_open", token=3)
    assert [("/s3cret", {"event": "after_open", "token": 3})] == [(path, json.loads(body)) for path, body in seen]
    with server(500, seen) as url:
        hooks_of(tmp_path, said, HooksConfig(after_open=[f"{url}/${{TOKEN}}"])).run("after_open", token=3)
    hooks_of(tmp_path, said, HooksConfig(after_open=[f"{url}/${{TOKEN}}"])).run("after_open", token=3)
    assert ["hook.ran", "hook.failed", "hook.failed"] == [action for action, _, _ in said]
    assert "answers 500" in said[1][1]
    assert "s3cret" not in str(said)


@pytest.mark.parametrize("event", ["before_fence", "before_open"])
@pytest.mark.parametrize(
    ("body", "told"), [("raise SystemExit(3)", "ends with 3"), ("import time; time.sleep(60)", "does not end within")]
)
def test_before_the_open_a_hook_that_fails_stops_the_switch(tmp_path: Path, event: str, body: str, told: str) -> None:
    said: Said = []
    good, bad = script(tmp_path, "", "good.py"), script(tmp_path, body)
    config = HooksConfig(**{event: [good, bad, good]}, timeout_s=2.0)
    with pytest.raises(Failed, match=told) as failed:
        hooks_of(tmp_path, said, config).run(event)
    assert Code.HOOK_FAILED is failed.value.code
    assert [("hook.ran", f"{event} 1 of 3 (a command)", "info")] == said


def test_later_a_hook_that_fails_stops_nothing(tmp_path: Path) -> None:
    said: Said = []
    config = HooksConfig(after_rollback=[str(tmp_path / "nowhere"), script(tmp_path, "")])
    hooks_of(tmp_path, said, config).run("after_rollback", token=1)
    assert [("hook.failed", "error"), ("hook.ran", "info")] == [(action, level) for action, _, level in said]


def test_beside_a_loop_it_is_told_from_the_loop(tmp_path: Path) -> None:
    said: Said = []
    hooks = hooks_of(tmp_path, said, HooksConfig(failed=[script(tmp_path, "raise SystemExit(1)")]))
    hooks.later("failed", token=1)
    assert [] == said
    deadline = time.monotonic() + 60
    while not said and time.monotonic() < deadline:
        hooks.tell()
        time.sleep(0.01)
    assert ["hook.failed"] == [action for action, _, _ in said]


def test_hooks_in_the_pause_are_shorter_than_the_lease(tmp_path: Path) -> None:
    document = {"source_databases": {"a": "a.db"}, "hooks": {"before_open": ["a", "b"], "timeout_s": 5.0}}
    with pytest.raises(ConfigError, match=r"hooks\.before_open may take 2 x 5 s"):
        parse(document, folder=tmp_path, name="tailrace.toml")
    with pytest.raises(ConfigError, match=r"hooks\.before_opened"):
        parse({**document, "hooks": {"before_opened": ["a"]}}, folder=tmp_path, name="tailrace.toml")
