"""Each benchmark at the tiny model's size: what is compared, and which keys come out. No time is asserted."""

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from agent.config import settings_of
from cao.errors import UnavailableError
from cao.machine.compute import processor_rates
from cao.model.language_model import LanguageModel
from cao.tasks.base import Task, choice_example
from cao.types import Branch, Query
from eval.bench import (
    adapter,
    command,
    flops,
    latent,
    page,
    processor,
    scoring,
    training,
    whole_run,
)
from eval.bench import options as bench_options
from eval.bench.growth import axes as growth_axes
from eval.bench.growth import measure as growth
from eval.bench.growth.measure import Axis
from eval.bench.plain import harness
from eval.bench.plain import slot as plain_slot
from eval.bench.plain.training import collate, weighted_loss
from eval.bench.scoring import Subject
from tests.agent.tiny_pretrained import aligner_of, generator_of, layout_of
from tests.tools.tiny_training import TASKS, rows_of
from tools.align_lora.presets import AlignerPreset
from tools.apply_strategy.ttl_loss import prompt_losses, sample_weight
from tools.generate_lora.checkpoints import CheckpointPreset

PROMPTS = ["Question: Which of these animals can fly?", "Why do plants need the sun?", "Tom has 12", "A"]


def values(result: Any) -> None:
    """Every result is JSON, and says what is too noisy."""
    json.dumps(result, allow_nan=False)
    assert result["machine"]["cores"]
    assert isinstance(result["noisy"], list)


# scoring -------------------------------------------------------------------------------------------------------------


def subject() -> Subject:
    choices = ("the bird", "to sleep", "a fish")
    examples = [choice_example(f"Which of them is number {i}?", choices, i % 3) for i in range(6)]
    return Subject(Task("tiny", "Tiny", "a test", lambda: examples), examples)


class FakeHarness:
    """Gives our own scores, turned upside down for the first ``wrong`` questions."""

    def __init__(self, lm: LanguageModel, wrong: int) -> None:
        self.lm, self.wrong = lm, wrong


def fake(monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    monkeypatch.setattr(scoring, "open_harness", lambda lm, batch, softmax=None: FakeHarness(lm, wrong))
    monkeypatch.setattr(flops, "SHAPES", ((64, 32, 48),))  # a slow processor's rate would take longer than the rest

    def theirs(self: Subject, lm: LanguageModel, made: FakeHarness) -> Sequence[Sequence[float]]:
        scores = [list(item.scores) for item in self.ours(lm)]
        return [[-each for each in row] if i < made.wrong else row for i, row in enumerate(scores)]

    monkeypatch.setattr(scoring.Subject, "theirs", theirs)


@pytest.mark.parametrize("wrong", [0, 2])
def test_decisions_are_compared_item_by_item(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    fake(monkeypatch, wrong)
    result = scoring.bench(tiny_lm, [subject()], repetitions=3, batch=4)
    values(result)
    assert {"ratios", "geomean_ratio", "decisions_equal", "decisions", "machine_share"} <= set(result)
    assert set(result["ratios"]) == {"tiny"}
    assert (result["decisions"], result["decisions_equal"]) == (6, 6 - wrong)
    assert [each["task"] for each in result["differences"]] == ["tiny"] * wrong
    assert f"{6 - wrong} of 6" in dict(scoring.rows(result))["equal decisions"]
    assert result["useful_flops"] == subject().flops(tiny_lm)


def test_a_noisy_scoring_prints_no_figure(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 0)
    times = iter(range(1, 100))
    monkeypatch.setattr(scoring, "seconds", lambda body, device: (body(), float(next(times) ** 3))[1])
    result = scoring.bench(tiny_lm, [subject()], repetitions=5, batch=4)
    assert result["ratios"] == {"tiny": None}
    assert result["geomean_ratio"] is None
    assert "tiny" in result["noisy"]
    told = dict(scoring.rows(result))
    assert "too noisy" in told["tiny, 6 questions"]
    assert told["geometric mean"].startswith("none")


def test_a_pair_is_what_is_read_and_what_is_judged() -> None:
    query = Query(prefix="Q:", branches=(Branch(scored=" a"), Branch(lead=" b", scored=" c")))
    assert harness.pairs([query]) == [("Q:", " a"), ("Q: b", " c")]
    assert harness.choices([[0.0, 1.0, 1.0], [3.0, 2.0]]) == [1, 0]


def test_without_the_harness_the_message_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(UnavailableError, match=r"pip install -c constraints.txt lm_eval==0\.4\.13"):
        harness.check_harness()
    assert command.main(["scoring", "--limit", "1", "--offline"]) == 3
    assert "pip install" in capsys.readouterr().err


@pytest.mark.integration
def test_the_harness_gives_the_log_likelihoods_that_we_give(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("lm_eval")
    tiny_lm.model.float()
    opened = harness.open_harness(tiny_lm, 4, "float32")
    assert opened.model is tiny_lm.model
    theirs = subject().theirs(tiny_lm, opened)
    ours = [item.scores for item in subject().ours(tiny_lm)]
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours, dtype=torch.float32), atol=1e-4, rtol=1e-4)


# latent --------------------------------------------------------------------------------------------------------------


def test_slot_equals_a_plain_sample_at_a_time(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    prompts = [tiny_lm.encode(text) for text in PROMPTS]
    for batch in latent.batched(prompts):
        ours = latent.deltas(tiny_lm, batch, latent.hidden_of(tiny_lm, batch))
        for row, i in enumerate(batch[0]):
            plain = plain_slot.forward_each_step(tiny_lm, prompts[i], latent.STEPS, latent.RATE)
            torch.testing.assert_close(ours[row], plain, atol=1e-4, rtol=0)
            states = plain_slot.states_of(tiny_lm, torch.tensor([prompts[i]]))[:-1]
            kept = plain_slot.cached(
                states, torch.tensor(prompts[i][1:]), tiny_lm.head.weight, latent.STEPS, latent.RATE
            )
            torch.testing.assert_close(kept, plain, atol=1e-4, rtol=0)


def test_batches_of_prompts_hold_each_once(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "TOKEN_BUDGET", 12)
    found = latent.batched([[1] * 5, [2], [3] * 6, [4] * 4, [5] * 20])
    assert [batch[0] for batch in found] == [[4], [2, 0], [3, 1]]
    assert [batch[2].sum(1).tolist() for batch in found] == [[19], [5, 4], [3, 0]]


def test_latent_has_its_keys(tiny_lm: LanguageModel) -> None:
    result = latent.bench(tiny_lm, [tiny_lm.encode(text) for text in PROMPTS], repetitions=2)
    values(result)
    assert set(result["ratios"]) == {"forward_each_step", "cached", "steps_alone"}
    assert result["largest_difference"]["float32"] < 1e-4
    assert len(latent.rows(result)) == 5


# training ------------------------------------------------------------------------------------------------------------


def test_padding_is_ignored_by_the_plain_loop() -> None:
    found = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_the_plain_weighted_loss_is_ttls(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    ids = [tiny_lm.encode(text) for text in PROMPTS[:2]]
    losses = prompt_losses(tiny_lm, ids)
    batch = collate([{"input_ids": row, "labels": row} for row in ids])
    logits = tiny_lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    wanted = float((sample_weight(losses) * losses).mean())
    assert float(weighted_loss(logits, batch["labels"])) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_both_loops_learn_the_same(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    prompts = training.surprising(tiny_lm, [e.prompt for e in TASKS["animals"].load()], 8)
    assert len(prompts) == 8
    result = training.bench(tiny_lm, rows_of(tiny_lm)[:8], prompts, batch=4, repetitions=2, memory_counts=(8, 16))
    values(result)
    assert set(result["ratios"]) == {"checkpoints", "ttl"}
    assert set(result["ttl_memory_mb"]) == {"8", "16"}
    for name in result["ratios"]:
        loss = result["loops"][name]["loss"]
        assert loss["ours"] == pytest.approx(loss["theirs"], rel=1e-2)
        assert loss["ours"] < loss["before"]
    assert not any("lora" in name for name, _ in tiny_lm.model.named_modules())
    assert len(training.rows(result)) == 5


# adapter -------------------------------------------------------------------------------------------------------------


def test_an_adapter_costs_less_than_training_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    from cao.machine.assets import minilm_folder
    from cao.model.encoder import Encoder
    from eval.bench.cost import Cheap

    layout = layout_of(tiny_lm)
    generator = generator_of(tiny_lm, torch.zeros(layout.layers, layout.length))
    cheap = Cheap(Encoder(minilm_folder()), generator, aligner_of(tiny_lm, generator, 1e-4), tiny_lm, PROMPTS, PROMPTS)
    made = adapter.recipe(
        tiny_lm, "arc_easy", tmp_path, cheap.encoder, CheckpointPreset(warm_steps=8, batch=2, samples=40)
    )
    made.consolidation.__dict__["layout"] = layout  # the tiny model is not the preset's
    result = adapter.bench(cheap, made, repetitions=1)
    values(result)
    assert result["recipe"] == {"steps": 58, "batch": 2}
    assert result["measured_steps"] == 8
    flops = result["flops"]
    stages = [flops[name] for name in ("encode", "generate", "vector", "align")]
    assert all(value > 0 for value in stages)
    assert flops["all"] == sum(stages)
    assert result["flop_ratio"] == pytest.approx(flops["training"] / flops["all"], abs=0.06)
    assert "multiplied out from 8 steps" in dict(adapter.rows(result))["training, 58 steps of 2"]


def test_a_model_without_trained_parts_is_unavailable(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UnavailableError, match=r"agent\.consolidate"):
        adapter.cheap_way(tiny_lm, "arc_easy", PROMPTS, PROMPTS)


# growth --------------------------------------------------------------------------------------------------------------


def test_an_axis_is_fitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fixed(bodies: dict[str, Any], repetitions: int, *, device: str) -> dict[str, list[float]]:
        return {size: [0.01 * int(size) ** 2] * repetitions for size in bodies}

    monkeypatch.setattr(growth, "alternate", fixed)
    result = growth.bench([Axis("things", "doing nothing", (1, 2, 4), lambda size: lambda: None, 2.0)], repetitions=3)
    values(result)
    assert result["exponents"] == {"things": 2.0}
    assert result["axes"]["things"]["seconds"] == [0.01, 0.04, 0.16]
    assert "exponent 2.00" in growth.rows(result)[0][1]
    picture = tmp_path / "growth.svg"
    page.draw_growth(result, picture)
    assert picture.read_text().startswith("<?xml")


def test_every_axis_works_at_every_size(tiny_lm: LanguageModel) -> None:
    preset = AlignerPreset(
        widths=(2, 4),
        latent=4,
        projected=8,
        code=4,
        meta_epochs=1,
        inner_rate=1e-3,
        meta_rate=1e-3,
        kl=0.005,
        chunks_per_step=2,
        vector_prompts=2,
    )
    one = subject()
    axes = [
        growth_axes.questions_axis(tiny_lm, one.task, one.examples, (2, 4, 100)),
        growth_axes.length_axis(tiny_lm, " ".join(PROMPTS), (8, 16)),
        *growth_axes.adapter_axes(tiny_lm, (1, 2), (1, 2), (1, 2), preset),
        growth_axes.drift_axis((2, 3), permutations=9),
    ]
    assert axes[0].sizes == (2, 4)
    assert axes[2].sizes[1] == 2 * axes[2].sizes[0]
    result = growth.bench(axes, repetitions=1)
    values(result)
    assert len(result["axes"]) == len(growth.rows(result)) == 6


# run and command -----------------------------------------------------------------------------------------------------


RECORD = {
    "seconds": 8.0,
    "peak_memory_mb": 1024,
    "overhead_share": 0.01,
    "attempts": 2,
    "timing_s": {"evaluate": 6.0, "decide": 2.0},
    "wall_s": 10.0,
    "dtype": "float32",
    "evaluations": {"answered": 30, "asked": 96},
}


def test_a_run_tells_where_its_time_goes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05] * repetitions)
    monkeypatch.setattr(whole_run, "one_run", lambda arguments, out, environment: dict(RECORD))
    assert command.main(["run", "--json", "--", "--task", "piqa"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["command"] == "python -m agent.run --task piqa"
    assert result["repetitions"] == 1
    assert result["split"] == {"evaluate": 0.6, "decide": 0.2}
    assert result["start_up_share"] == 0.2
    assert command.main(["run"]) == 0
    told = capsys.readouterr().out
    assert "evaluate 60 %, decide 20 %" in told
    assert "python -m eval.bench run" in told
    assert "30 answered of 96" in told


def test_ways_of_running_are_compared_by_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[str], dict[str, str], int]] = []

    def one_run(arguments: list[str], out: Path, environment: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        asked.append((list(arguments), dict(environment), len(busy)))
        return {**RECORD, "wall_s": 30.0 if "bfloat16" in arguments else 20.0 if busy else 10.0}

    busy: list[bool] = []

    @contextmanager
    def neighbour() -> Iterator[None]:
        busy.append(True)
        yield
        busy.pop()

    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05])
    monkeypatch.setattr(whole_run, "one_run", one_run)
    monkeypatch.setattr(whole_run, "busy_neighbour", neighbour)
    arguments = ["run", "--repetitions", "2", "--compare", "bfloat16,busy,spinning", "--json", "--", "--task", "piqa"]
    assert command.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert {name: each["ratio"] for name, each in result["compared"].items()} == {
        "bfloat16": 3.0,
        "busy": 2.0,
        "spinning": 1.0,
    }
    plain = (["--task", "piqa"], {}, 0)
    forced, beside = (["--task", "piqa", "--dtype", "bfloat16"], {}, 0), (["--task", "piqa"], {}, 1)
    assert asked == 2 * [plain, forced, beside, (["--task", "piqa"], {"OMP_WAIT_POLICY": "active"}, 0)]
    assert set(whole_run.WAYS) == set(bench_options.WAYS)
    assert command.main(["run", "--compare", "nothing"]) == 2


def test_a_neighbour_is_busy_for_as_long_as_the_block() -> None:
    with whole_run.busy_neighbour():
        (child,) = [one for one in psutil.Process().children() if "while True" in " ".join(one.cmdline())]
        assert child.is_running()
    assert not child.is_running()


def test_the_processor_bench_runs_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"first_s": 0.1, "again_s": 0.0, "rates": {"float32": 2e9, "bfloat16": 1e9}}

    def of(program: str, **environment: str) -> dict[str, Any]:
        return said if program is processor.PROBE else {"rate": 2.0 if environment else 3.0}

    monkeypatch.setattr(processor, "_said", of)
    assert command.main(["processor", "--repetitions", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    values(result)
    assert result["ours_over_spinning_idle"]["median"] == 1.5
    assert result["probe_s"] == 0.1
    assert dict(processor.rows(result))["float32 products"] == "2 GFLOP/s"


@pytest.mark.slow
def test_the_probe_takes_place_once() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = processor._said(processor.PROBE, XDG_CACHE_HOME=folder)
    assert found["rates"]["float32"] > 0
    assert found["again_s"] < found["first_s"] or found["rates"]["noisy"]


def test_figures_are_written_into_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05])
    monkeypatch.setattr(whole_run, "one_run", lambda arguments, out, environment: dict(RECORD))
    assert command.main(["run", "--write"]) == 2  # there is no page
    kind = f"bench:run:{processor_rates().faster}"
    page.PAGE.write_text(f"# Page\n<!-- {kind} -->\n<!-- /{kind} -->\n")
    assert command.main(["run", "--write"]) == 0
    assert "python -m eval.bench run\n" in page.PAGE.read_text()
    assert "--write" not in page.PAGE.read_text()


@pytest.mark.parametrize(
    "argv",
    [
        ["latent", "--task", "nothing"],
        ["latent", "--model", "nothing"],
        ["scoring", "--tasks", "arc_easy,nothing"],
    ],
)
def test_bad_input_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if argv[0] == "scoring":
        pytest.importorskip("lm_eval")
    assert command.main([*argv, "--offline"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_the_package_is_a_command() -> None:
    assert importlib.import_module("eval.bench.__main__").main is command.main
    for name in command.BENCHES:
        given = command.parser().parse_args([name])
        settings, _ = command.BENCHES[name]
        assert settings_of(settings, given, "bench").model_dump()["repetitions"] == (1 if name == "run" else 5)
