"""The table of starts: its means are differences of the sides, and its page says them."""

from cao.profile_settings import ProfileSettings
from eval.options import TablesOptions
from eval.policies.ground import SITUATIONS, plan_of
from eval.policies.starts import ByRule, Side, StartCell, StartsResult
from eval.policies.starts_page import page


def cell(base: float, adapted: float, start: str = "aligned") -> StartCell:
    def side(accuracy: float) -> Side:
        return Side(accuracy=accuracy, loss=1.0, at_chance=accuracy <= 0.3)

    return StartCell(
        start=start,
        rules=("log p per character", "log p"),
        base_default=side(base - 0.1),
        base=side(base),
        start_default=side(adapted - 0.05),
        adapted=side(adapted),
        by_rule={
            "either": ByRule(start=start, adapted=side(adapted)),
            "confident": ByRule(start="base", adapted=side(base)),
            "any": ByRule(start="generated", adapted=side(adapted - 0.02)),
        },
        chance=0.25,
        p_value=0.5,
        n=200,
    )


def result() -> StartsResult:
    cells = {
        "a-0": cell(0.5, 0.6),
        "a-1": cell(0.5, 0.64),
        "b-0": cell(0.3, 0.3, "base"),
        "b-1": cell(0.3, 0.3, "base"),
    }
    return StartsResult(
        command="python -m eval.tables --table starts",
        table="starts",
        measured="2026-01-01",
        model="tiny",
        model_sha256="0" * 64,
        device="cpu",
        dtype="float32",
        reward=96,
        limit=200,
        tasks=("a", "b"),
        seeds=(0, 1),
        rule="either",
        rule_choice="the best one",
        cells=cells,
    )


def test_each_step_is_a_difference_of_two_sides() -> None:
    text = page(result())
    assert "| rule alone, base model | +10.0 (+10.0 to +10.0) | 0.5 |" in text
    assert "| base by its best rule → start | +6.0 (" in text  # (10 + 14 + 0 + 0) / 4
    assert "| base by the default rule → start | +16.0 (" in text


def test_a_task_says_what_it_began_with_and_whether_it_guesses() -> None:
    text = page(result())
    assert "| a | 25.0 | 40.0 | 50.0 | 62.0 | +12.0 | 2 aligned | 0 and 0 of 2 |" in text
    assert "| b | 25.0 | 20.0 | 30.0 | 30.0 | +0.0 | 2 base | 2 and 2 of 2 |" in text
    assert "| a-1 | aligned | log p per character | log p | 50.0 → 64.0 % |" in text


def test_the_rules_of_acceptance_are_set_side_by_side() -> None:
    text = page(result())
    assert "| `either` | 2 of 4 | +6.0 (" in text
    assert "| `confident` | 0 of 4 | +0.0 (+0.0 to +0.0) | 1 | 0 of 4 |" in text
    assert "| `any` | 4 of 4 | +4.0 (" in text  # (8 + 12 - 2 - 2) / 4
    assert text.split("| `any` | ")[1].split("\n")[0].endswith(") | 1 | 2 of 4 |")


def test_settings_of_the_profile_are_those_of_the_runs() -> None:
    options = TablesOptions(table="starts", profile=ProfileSettings(answer_style="letter"), dtype="float32")
    assert plan_of(options).config.profile == options.profile
    assert plan_of(options).folder == SITUATIONS
