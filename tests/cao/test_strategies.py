"""The families' table against their files, and what every family has to say of itself."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import cao.strategies
from cao.strategies import FAMILIES, Strategy
from cao.strategies.ttl import TTL, TTLSettings
from cao.strategy import (
    StrategyRejectedError,
    parse_strategy,
    restore_strategy,
    strategy_schema,
    strategy_text,
    validate_strategy,
)
from policies.grid import grid
from policies.messages import plain_json
from policies.uniform import draw


def test_every_file_is_a_family_of_the_table() -> None:
    files = {file.stem for file in Path(cao.strategies.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert {family.__module__.rsplit(".", 1)[1] for family in FAMILIES.values()} == files
    assert len(FAMILIES) == len(files)


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_a_family_speaks_of_every_field_and_its_grid_is_within_its_bounds(name: str, family: type[Strategy]) -> None:
    properties = family.model_json_schema(by_alias=True)["properties"]
    assert list(properties) == ["family", *family.usual, *family.unoffered]
    assert list(family.schema_of()["properties"]) == ["family", *family.usual]
    assert family.about.endswith(".")
    assert family.grid()
    for point in family.grid():
        assert type(point) is family
        assert validate_strategy(point.canonical()) == point
        assert point.family == name


@pytest.mark.parametrize("point", grid(FAMILIES), ids=str)
def test_a_strategy_comes_back_from_its_json_as_it_was(point: Strategy) -> None:
    assert restore_strategy(point.canonical()) == point
    assert parse_strategy(plain_json(point.canonical())) == point


@pytest.mark.parametrize(("family", "key"), [("TTL", "inputs"), ("LORA", "reading"), ("TTS", "members")])
def test_a_key_at_its_default_is_not_written(family: str, key: str) -> None:
    before = next(point.canonical() for point in FAMILIES[family].grid() if key not in point.canonical())
    default = FAMILIES[family].model_fields[key].default
    assert validate_strategy({**before, key: default}).canonical() == before
    assert getattr(restore_strategy(before), key) == default


def test_lambda_goes_beyond_one_as_a_strength_only() -> None:
    strong = {"family": "LORA", "lambda": 1.5, "reading": "strength"}
    assert validate_strategy(strong).canonical() == strong
    with pytest.raises(StrategyRejectedError, match="LORA: lambda: Input should be less than or equal to 1"):
        validate_strategy({**strong, "lambda": 1.51})
    with pytest.raises(StrategyRejectedError, match="LORA: object: lambda is at most 1 with reading butterfly"):
        validate_strategy({**strong, "reading": "butterfly"})


def test_what_is_drawn_at_random_is_valid_and_canonical() -> None:
    rng = random.Random(0)
    for family in FAMILIES:
        for drawn in (draw(family, rng) for _ in range(100)):
            assert validate_strategy(drawn).canonical() == drawn


def test_a_strategy_reads_as_its_family_with_its_settings() -> None:
    text = strategy_text({"family": "TTS", "num_prompt_batches": 8, "method": "max_confidence"})
    assert text == "TTS(num_prompt_batches=8, method=max_confidence)"
    assert strategy_text({}) == "?()"


def test_the_families_are_known_without_torch() -> None:
    code = "import sys, policies.messages, policies.grid, policies.uniform; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_runs_settings_go_to_every_ttl_that_states_none_and_to_no_policy() -> None:
    salient = TTLSettings(subset="layers", share=0.5)
    plain = TTL.papers_numbers()
    assert TTLSettings().added(plain).canonical() == plain.canonical()
    assert salient.added(plain).canonical() == {**plain.canonical(), "subset": "layers", "share": 0.5}
    own = validate_strategy({**plain.canonical(), "peft": "dora"})
    assert salient.added(own) is own
    calibrate = FAMILIES["Calibrate"].grid()[0]
    assert salient.added(calibrate) is calibrate
    with pytest.raises(StrategyRejectedError, match="TTL: share"):
        validate_strategy({**plain.canonical(), "subset": "layers", "share": 0})
    offered = json.dumps(strategy_schema())
    assert not any(f'"{key}"' in offered for key in TTL.unoffered)


@pytest.mark.parametrize("idle", [{"share": 0.5}, {"subset": "all", "share": 1}, {"virtual_tokens": 4, "peft": "lora"}])
def test_a_key_without_effect_makes_a_ttl_no_other_one_and_states_none_of_the_runs_settings(
    idle: dict[str, object],
) -> None:
    plain = TTL.papers_numbers()
    found = validate_strategy({**plain.canonical(), **idle})
    assert found.canonical() == plain.canonical()
    assert not {"share", "virtual_tokens"} & found.model_fields_set


def test_a_key_without_effect_must_be_within_its_bounds_all_the_same() -> None:
    plain = TTL.papers_numbers().canonical()
    for idle in ({"share": 2}, {"share": True}, {"virtual_tokens": 0}, {"virtual_tokens": 2.5}):
        with pytest.raises(StrategyRejectedError, match=f"TTL: {next(iter(idle))}"):
            validate_strategy({**plain, **idle})
    kept = validate_strategy({**plain, "peft": "prompt", "virtual_tokens": 4}).canonical()
    assert kept["virtual_tokens"] == 4


def test_a_runs_own_idle_settings_leave_a_ttl_as_it_was() -> None:
    plain = TTL.papers_numbers()
    assert TTLSettings(share=0.5, virtual_tokens=4).added(plain).canonical() == plain.canonical()
    assert TTLSettings(share=0.5, peft="dora").added(
        validate_strategy({**plain.canonical(), "share": 0.1})
    ).canonical() == {
        **plain.canonical(),
        "peft": "dora",
    }
