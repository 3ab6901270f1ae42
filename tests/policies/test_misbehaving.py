"""The client against a server that misbehaves in every way known, over and over: a text or a typed error, no key."""

import random
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity.nap

from cao.errors import UnavailableError
from cao.policy_settings import PolicySettings
from cao.tasks import TASKS
from policies.describe import describe
from tests.policies.bad_answers import GOOD, KEY, SLOW, ways
from tests.policies.contexts import CONTEXT
from tests.policies.openai_policies import policy
from tests.policies.serving import serving

LONG = 1_000
MOST = 5


def described(server: Any, timeout_s: float, call: int) -> str:
    """Ask the describer, each time for other questions, so that no description is in the cache."""
    settings = PolicySettings(base_url=server.url, timeout_s=timeout_s, max_requests=MOST)
    pairs: list[tuple[str, str | None]] = [(f"How much is {call} plus 7?", None)]
    nobody: Any = None
    told = describe("openai", TASKS["arc_easy"], pairs, settings=settings, lm=nobody, seed=call, offline=True)
    return f"{told.text} {told.note}"


@pytest.mark.slow
def test_bad_answers_end_in_a_text_or_a_typed_error_within_the_budget(
    server: Any, http: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _: None))
    strangers: list[str] = []

    class Stranger(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            strangers.append(str(self.client_address))
            self.close_connection = True

    ended = {"text": 0, "error": 0}
    with serving(Stranger) as elsewhere:
        bad, draw = ways(http, elsewhere), random.Random(0)
        calls = max(len(bad), round(LONG * request.config.getoption("--long")))
        names = [name for _ in range(1 + calls // len(bad)) for name in draw.sample(sorted(bad), len(bad))]
        for call, name in enumerate(names[:calls]):
            alone = draw.random() < 0.5
            server.requests.clear()
            server.refused = 0
            server.will(bad[name], *([] if alone else [http.answer(http.completion(GOOD))]))
            timeout_s = 0.3 if name in SLOW else 10
            asked = policy(server, max_requests=MOST, timeout_s=timeout_s)
            try:
                told = described(server, timeout_s, call) if call % 3 == 0 else asked.propose(CONTEXT, 1, seed=0)[0]
                ended["text"] += 1
            except UnavailableError as error:
                told = str(error)
                ended["error"] += 1
            assert KEY not in told, name
            assert KEY[:12] not in told or name == "a key in pieces", name
            assert len(server.requests) <= MOST, name
    assert sum(ended.values()) == calls
    assert min(ended.values()) > calls // 5
    assert strangers == []
    assert set(server.keys) == {KEY}
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
