"""The fixed policy, the table of policies, and where JSON is found in text."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cao.errors import InputError, UnavailableError
from cao.files import canonical_json
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import Trial
from policies.base import PolicyContext
from policies.extract import first_object, unwrap
from policies.fixed import FixedPolicy
from policies.registry import POLICIES, build_policy, check_learnt
from policies.selection.learnt import Selection, selection_file
from policies.selection.surrogate import fit

A = '{"family": "LORA", "lambda": 0.5}'
B = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'


def after(attempts: int) -> PolicyContext:
    trials = tuple(Trial(attempt=i + 1, raw="", accepted=False, reason="") for i in range(attempts))
    return PolicyContext(history=trials)


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "strategies"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (A, [A]),
        (f"\ufeff{A}\n", [A]),
        ('{\n "family": "LORA",\n "lambda": 0.5\n}\n', ['{\n "family": "LORA",\n "lambda": 0.5\n}']),
        (f"[{A}, {B}]", [A, B]),
        (f"{A}\n\nthis is no strategy {{\n{B}\n", [A, "this is no strategy {", B]),
        (
            f'["garbage", 3, {{"family": "LORA", "lambda": NaN}}, {A}]',
            ["garbage", "3", '{"family": "LORA", "lambda": NaN}', A],
        ),
    ],
)
def test_files_are_read_in_order(tmp_path: Path, content: str, texts: list[str]) -> None:
    policy = FixedPolicy(write(tmp_path, content))
    assert [policy.propose(after(i), 1, seed=9)[0] for i in range(len(texts))] == texts


def test_the_attempt_decides_and_after_the_last_it_starts_over(tmp_path: Path) -> None:
    policy = FixedPolicy(write(tmp_path, f"{A}\n{B}\n"))
    assert policy.propose(after(3), 1, seed=0) == [B]
    assert policy.propose(after(1), 4, seed=0) == [B, A, B, A]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no strategy"),
        (" \n\n", "no strategy"),
        ("[]", "no strategy"),
        ('{\n "family": "LORA",\n', "one JSON object a line. The first: not JSON"),
        ('{"family": "LORA", "lambda": 7}', "one JSON object a line. The first: LORA: lambda"),
        ("x" * 1_000_001, "over"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_none_is_bad_input(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FixedPolicy(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_bad_input(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("zero\0byte")):
        with pytest.raises(InputError, match="cannot be read"):
            FixedPolicy(path)


@given(st.binary(max_size=400))
def test_any_bytes_give_texts_or_bad_input(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        texts = FixedPolicy(path).propose(after(0), 3, seed=0)
    except InputError:
        return
    for text in texts:
        try:
            parse_strategy(text)
        except StrategyRejectedError:
            continue


def test_policies_are_built_by_name(tmp_path: Path, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    settings = PolicySettings(strategy_file=str(write(tmp_path, A)))
    strategy = {"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}
    fitted = fit([{"drift": 0.0}], [{canonical_json(strategy): 0.1}], [strategy])
    learnt = Selection(base_sha256=tiny_lm.sha256, portfolio=(strategy,), surrogate=fitted)
    folder = selection_file("tiny", str(tmp_path))
    folder.parent.mkdir()
    folder.write_text(learnt.model_dump_json())
    for name in POLICIES:
        built = build_policy(
            name, settings, lm=tiny_lm, offline=False, pretrained=None if name == "local" else str(tmp_path)
        )
        assert built.name == name


@pytest.mark.parametrize("name", ["portfolio", "surrogate"])
def test_what_was_not_learnt_names_the_command_that_makes_it(name: str, tmp_path: Path, tiny_lm: LanguageModel) -> None:
    with pytest.raises(UnavailableError, match=r"agent.train_policy --model MODEL --landscape .*--install"):
        build_policy(name, PolicySettings(), lm=tiny_lm, offline=True, pretrained=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "settings"), [("portfolio", {}), ("surrogate", {}), ("local", {"draws": 3})], ids=lambda each: str(each)
)
def test_what_was_not_learnt_is_found_out_before_a_model_is_loaded(
    name: str, settings: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError, match=r"agent.train_policy --model MODEL --landscape .*--install"):
        check_learnt(name, PolicySettings.model_validate(settings), "tiny", str(tmp_path))
    selection_file("tiny", str(tmp_path)).parent.mkdir()
    selection_file("tiny", str(tmp_path)).write_text("{}")
    check_learnt(name, PolicySettings.model_validate(settings), "tiny", str(tmp_path))


def test_a_policy_that_learns_nothing_needs_nothing_learnt(tmp_path: Path) -> None:
    for name in set(POLICIES) - {"portfolio", "surrogate"}:
        check_learnt(name, PolicySettings(), "tiny", str(tmp_path))


def test_names_and_settings_that_lead_nowhere_say_so(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown policy 'oracle'; known: local, openai, fixed"):
        build_policy("oracle", PolicySettings(), lm=tiny_lm, offline=True)
    with pytest.raises(InputError, match="strategy_file=FILE"):
        build_policy("fixed", PolicySettings(), lm=None, offline=True)
    with pytest.raises(InputError, match="needs a model"):
        build_policy("local", PolicySettings(), lm=None, offline=True)
    with pytest.raises(InputError, match="unknown model 'gpt-9'"):
        build_policy("local", PolicySettings(model="gpt-9"), lm=tiny_lm, offline=True)
    with pytest.raises(UnavailableError, match="no model folder"):
        build_policy("local", PolicySettings(model_path=str(tmp_path)), lm=tiny_lm, offline=True)


def test_the_local_policy_shares_the_runs_model_or_loads_its_own(
    tiny_lm: LanguageModel, tiny_model_folder: Path
) -> None:
    shared: Any = build_policy("local", PolicySettings(), lm=tiny_lm, offline=True)
    assert shared.lm is tiny_lm
    settings = PolicySettings(model="qwen2.5-0.5b", model_path=str(tiny_model_folder))
    own: Any = build_policy("local", settings, lm=tiny_lm, offline=True)
    assert own.lm is not tiny_lm
    assert own.lm.profile.name == "qwen2.5-0.5b"


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": float("nan")},
        {"max_tokens": 0},
        {"base_url": "ftp://x"},
        {"api_key": "k"},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicySettings(**bad)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"here: {A}.", A),
        ("{oops} {} end", "{}"),
        ('{"a": {"b": 1}} {"c": 2}', '{"a": {"b": 1}}'),
        ("no object", None),
        ("{" * 100_000, None),
        ('{"a":' * 50_000, None),
        ("[" * 9_000 + "{}", "{}"),
        ('<think>{"a": 1}</think> {"b": 2}', '{"b": 2}'),
        ('<think>{"a": 1} and so on', None),
        ("<think>" + "{ " * 50_000 + "</think>{}", "{}"),
    ],
)
def test_the_first_object_is_found_where_it_stands(text: str, found: str | None) -> None:
    assert first_object(text) == found


@given(st.text(max_size=500))
def test_extraction_of_any_text_returns_a_piece_of_it(text: str) -> None:
    found = first_object(text)
    assert found is None or (found in text and found.startswith("{"))
    assert unwrap(text) in text


def test_a_call_in_the_text_is_unwrapped_with_its_strategy() -> None:
    wrapped = f'{{"strategy": {A}}}'
    assert unwrap(f'{{"name": "choose", "arguments": {wrapped}}}') == A
    assert unwrap(f'{{"name": "choose", "arguments": {json.dumps(wrapped)}}}') == A
    twice = '{"arguments": {"family": "LORA", "lambda": 0.1, "lambda": 0.9}}'
    with pytest.raises(StrategyRejectedError, match="more than once"):
        parse_strategy(unwrap(twice))


def test_unwrap_takes_the_root_key_and_nothing_else() -> None:
    assert unwrap(f' {{"strategy" : {A}}}\n') == A
    for other in (A, f'{{"plan": {A}}}', f'x {{"strategy": {A}}}', '{"strategy": 3}'):
        assert unwrap(other) == other
    with pytest.raises(StrategyRejectedError):
        parse_strategy(unwrap(f'{{"strategy": {A}, "more": {{"lambda": 1}}}}'))


def test_a_text_may_hold_separators_that_end_no_line(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(f'{{"a": "x\u2028y"}}\n{A}\n')
    empty: Any = SimpleNamespace(history=())
    assert FixedPolicy(tmp_path / "s.jsonl").propose(empty, 2, 0) == ['{"a": "x\u2028y"}', A]
