"""Baselines on a tiny consolidation: what each reads, what it costs, what is not done twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agent.train.generator.presets import REPORTED
from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.tasks import get_task
from cao.tasks.splits import part
from eval.baselines import baseline, registry
from eval.baselines.baseline import TEST_STEPS, Budget, Prepared, Spent, adapted, fingerprint_of, prepared
from eval.baselines.cell import chosen_rate, run_cell
from eval.baselines.descent import Extent
from eval.baselines.ground import FEW, Ground, ground_of
from eval.baselines.maml import MamlEnLlm, MamlSettings
from eval.baselines.objective import tokens_of
from eval.baselines.registry import BASELINES
from eval.baselines.serl import method
from eval.generation.workshop import Workshop
from eval.paper.making import equal_budget

FOLDER = Path(registry.__file__).parent
HELPERS = {"baseline", "cell", "checkpoints", "descent", "ground", "objective", "registry"}
BUDGET = Budget(preparing=4000, adapting=1000, rates=(1e-4, 1e-2))
QUICK = MamlEnLlm(MamlSettings(extent=Extent(steps=4), testing=Extent(steps=2), outer_rate=1e-2, inner_rate=1e-2))


def test_every_file_of_a_baseline_has_its_line() -> None:
    files = {path.stem for path in FOLDER.glob("[a-z]*.py")} | {path.parent.name for path in FOLDER.glob("*/*.py")}
    assert files - HELPERS - {"baselines"} == set(BASELINES)
    for name, kind in BASELINES.items():
        assert kind.name == name
        assert kind.paper().settings() == kind.paper().settings()


def test_what_was_spent_adds_up_and_what_was_not_kept_stays_unknown() -> None:
    both = Spent(steps=2, tokens=10, seconds=1.5) + Spent(steps=1, tokens=5, seconds=None)
    assert both == Spent(steps=3, tokens=15, seconds=None)
    left = Budget(preparing=1000, adapting=0, rates=(1e-4, 1e-3), trial=0.1)
    assert left.tried().preparing * 2 + left.left().preparing == 1000
    assert left.model_copy(update={"rates": (1e-3,)}).left().preparing == 1000


def test_a_method_that_prepares_nothing_reads_over_all_targets_what_a_preparation_and_they_take() -> None:
    budget = Budget(preparing=3000, adapting=500, targets=3, rates=(1e-4, 1e-3), trial=0.1)
    assert budget.alone == 1500
    assert 3 * budget.alone == budget.preparing + 3 * budget.adapting
    assert (budget.tried().alone, budget.left().alone) == (150, 1200)
    assert budget.tried().steps == budget.left().steps == TEST_STEPS


@pytest.mark.slow
def test_a_preparation_is_kept_and_a_killed_one_goes_on(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared(QUICK, ground)
    assert (whole.spent.steps, whole.spent.tokens is not None) == (4, True)
    [file] = ground.folder.glob("*.safetensors")
    assert prepared(QUICK, ground).spent == whole.spent
    file.unlink()

    class Killed(Exception):
        pass

    def kill(label: str, done: int, total: int) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        prepared(QUICK, replace(ground, progress=kill), every_s=0.0)
    steps = list[int]()
    again = prepared(QUICK, replace(ground, progress=lambda _, done, __: steps.append(done)), every_s=0.0)
    assert steps == [3, 4]
    assert (again.spent.steps, again.spent.tokens) == (4, whole.spent.tokens)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in whole.tensors.items())
    assert [path.suffix for path in ground.folder.iterdir()] == [".safetensors"]


@pytest.mark.slow
def test_another_setting_is_another_preparation(ground: Ground) -> None:
    other = MamlEnLlm(QUICK.hyper.model_copy(update={"shared": False}))
    assert prepared(other, ground).tensors.keys() == prepared(QUICK, ground).tensors.keys()
    assert len(list(ground.folder.glob("*.safetensors"))) == 2


@pytest.mark.slow
def test_test_questions_are_read_by_none_and_support_labels_by_those_that_say_so(ground: Ground) -> None:
    target, ready = ground.target("social_iqa", 0, train=True), prepared(QUICK, ground)
    turned = tuple(each.model_copy(update={"answer": (each.answer + 1) % 3}) for each in target.support)
    first, second = (adapted(QUICK, ground, ready, each) for each in (target, replace(target, support=turned)))
    assert sha(first.weights) != sha(second.weights)
    assert first.spent.steps == 2
    assert first.weights is not None
    assert set(first.weights.targets) == {"q_proj", "v_proj", "o_proj"}
    seen = {example.id for example in (*target.support, *target.reward, *target.train)}
    assert not seen & {example.id for example in part(get_task("social_iqa"), "test")}


@pytest.mark.slow
def test_no_meta_train_draws_by_the_seed_of_the_table(ground: Ground) -> None:
    method = BASELINES["no_meta_train"].equal(Budget(preparing=0, adapting=300), 1e-3, ground)
    targets = [replace(ground.target("social_iqa", 0, train=True), seed=seed) for seed in (0, 0, 1)]
    made = [sha(adapted(method, ground, Prepared(), target).weights) for target in targets]
    assert made[0] == made[1] != made[2]


@pytest.mark.slow
def test_few_labels_are_read_as_often_on_every_target_however_long_its_questions_are(ground: Ground) -> None:
    budget, few = Budget(preparing=2000, adapting=1, steps=2), []
    for name, steps in (("maml", 2), ("abmll", 25)):  # ABMLL's steps read two questions each
        method = BASELINES[name].equal(budget, 1e-3, ground)
        ready = prepared(method, ground)
        for task in ("social_iqa", "boolq"):
            spent = adapted(method, ground, ready, ground.target(task, 0)).spent
            assert spent.steps == steps
            few.append(spent.tokens)
    assert few[1] > 2 * few[0]
    assert few[3] > 2 * few[2]


@pytest.mark.slow
def test_other_code_is_another_preparation(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint_of(QUICK, ground)
    assert fingerprint_of(QUICK, ground) == before
    monkeypatch.setattr(baseline, "code_of", lambda *_: "other")
    assert fingerprint_of(QUICK, ground) != before


def sha(weights: LoraWeights | None) -> str:
    assert weights is not None
    return adapter_sha256(weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"serl"}))
def test_each_runs_within_an_equal_budget_and_pays_for_choosing_its_rate(workshop: Workshop, name: str) -> None:
    cell = run_cell(workshop, BASELINES[name], "social_iqa", 0, rules="equal", budget=BUDGET)
    rated = BASELINES[name].rated
    assert set(cell.losses) == (set(BUDGET.rates) if rated else set())
    assert (cell.weights is None) == (name == "base")
    if cell.weights is not None:
        workshop.consolidation.lm.check_fit(cell.weights)
    if name in ("union_train", "maml", "abmll"):
        longest = 20 * 64  # tokens of a step
        assert cell.preparing.tokens is not None
        assert BUDGET.left().preparing <= cell.preparing.tokens < BUDGET.left().preparing + longest
        assert cell.choosing.tokens
    if name in ("no_meta_train", "maml", "abmll"):
        assert cell.adapting.tokens is not None
        assert BUDGET.adapting <= cell.adapting.tokens
    again = run_cell(workshop, BASELINES[name], "social_iqa", 0, rules="equal", budget=BUDGET)
    assert (again.losses, again.preparing) == (cell.losses, cell.preparing)


@pytest.mark.slow
def test_serl_runs_within_an_equal_budget(workshop: Workshop) -> None:
    pytest.importorskip("trl")
    budget = Budget(preparing=0, adapting=30_000, rates=(1e-3,))
    cell = run_cell(workshop, BASELINES["serl"], "social_iqa", 0, rules="equal", budget=budget)
    assert cell.weights is not None
    workshop.consolidation.lm.check_fit(cell.weights)
    assert cell.adapting.steps > 0
    assert cell.adapting.tokens is not None
    assert cell.adapting.tokens >= budget.adapting


@pytest.mark.slow
def test_serl_takes_a_step_however_small_its_budget_is(workshop: Workshop) -> None:
    """Writing questions alone reads more; a training without a step would be the base model under another name."""
    pytest.importorskip("trl")
    budget = Budget(preparing=0, adapting=500, rates=(1e-3,))
    cell = run_cell(workshop, BASELINES["serl"], "social_iqa", 0, rules="equal", budget=budget)
    assert cell.adapting.steps == 1


@pytest.mark.slow
def test_serl_that_was_killed_behind_its_writing_takes_its_step_all_the_same(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    budget = Budget(preparing=0, adapting=501, rates=(1e-3,))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(method, "reinforce", killed)
        with pytest.raises(KeyboardInterrupt):
            run_cell(workshop, BASELINES["serl"], "social_iqa", 0, rules="equal", budget=budget)
    monkeypatch.setattr(method, "write_questions", None)  # what was written is kept
    cell = run_cell(workshop, BASELINES["serl"], "social_iqa", 0, rules="equal", budget=budget)
    assert cell.adapting.steps == 1


@pytest.mark.slow
def test_stored_checkpoints_are_those_of_the_consolidation(workshop: Workshop) -> None:
    cell = run_cell(workshop, BASELINES["nearest"], "social_iqa", 0, rules="paper")
    nearest = cell.weights
    assert nearest is not None
    assert cell.adapting == Spent()  # what was trained knows nothing of the target
    assert cell.preparing.steps > 0
    source, _ = workshop.nearest("social_iqa", workshop.full, 0)
    wanted = workshop.average(workshop.full, [f"checkpoints/{source}"])
    assert all(torch.equal(nearest.tensors[name], tensor) for name, tensor in wanted.tensors.items())
    mean = run_cell(workshop, BASELINES["mean"], "social_iqa", 0, rules="paper").weights
    assert mean is not None
    sources = [f"checkpoints/{name}" for name in workshop.full.sources]
    wanted = workshop.average(workshop.full, sources)
    assert all(torch.equal(mean.tensors[name], tensor) for name, tensor in wanted.tensors.items())


@pytest.mark.slow
def test_a_target_that_is_a_source_is_left_out_of_its_own_preparation(workshop: Workshop) -> None:
    cell = run_cell(workshop, BASELINES["mean"], "openbookqa", 0, rules="paper").weights
    assert cell is not None
    wanted = workshop.average(workshop.full, ["checkpoints/arc_easy"])
    assert all(torch.equal(cell.tensors[name], tensor) for name, tensor in wanted.tensors.items())


@pytest.mark.slow
def test_a_rate_that_diverges_is_left_and_all_of_them_are_refused(ground: Ground) -> None:
    budget = Budget(preparing=3000, adapting=500, rates=(1e-3, 1e30))
    rate, spent, losses = chosen_rate(BASELINES["union_train"], ground, budget)
    assert (rate, losses[1e30]) == (1e-3, None)
    both = chosen_rate(BASELINES["union_train"], ground, budget.model_copy(update={"rates": (1e-3, 1e-4)}))[1]
    assert spent.tokens is not None
    assert both.tokens is not None
    assert spent.tokens > both.tokens / 2  # what the one that diverged read counts
    with pytest.raises(InputError, match="diverged at every rate"):
        chosen_rate(BASELINES["union_train"], ground, budget.model_copy(update={"rates": (1e30, 1e31)}))


@pytest.mark.slow
def test_what_is_refused(workshop: Workshop) -> None:
    with pytest.raises(InputError, match="need a budget"):
        run_cell(workshop, BASELINES["base"], "social_iqa", 0, rules="equal")


@pytest.mark.slow
def test_the_tokens_of_the_sources_are_counted_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = ground_of(workshop, "social_iqa")
    every = [ground.rows(source, ground.objective) for source in ground.variant.sources]
    mean = sum(tokens_of(rows) / len(rows) for rows in every) / len(every)
    first = equal_budget(ground)
    assert first.adapting == round(mean * TEST_STEPS * FEW)
    assert first.targets == len(REPORTED) - 1  # ARC-Easy is a source of both generators
    monkeypatch.setattr(Ground, "rows", None)
    assert equal_budget(ground_of(workshop, "social_iqa")) == first
