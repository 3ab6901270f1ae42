"""The tool: from examples and an adapted model to graded items."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cao.errors import InputError
from cao.inference.generation import Generated, generate
from cao.inference.scoring import BranchScore, QueryScore, score_queries
from cao.model.adapters import LoraWeights, save_adapter
from cao.model.language_model import LanguageModel
from cao.tasks.base import Task
from cao.types import AdaptedModel, AdapterRef, AnswerProtocol, Branch, Example, Item, LatentSettings, Query
from tools.apply_strategy.latent import moving
from tools.apply_strategy.tts import combine
from tools.evaluate import evaluate, graded, load_items, save_items, together

EXAMPLES = [
    Example(id="a", question="Which of these can fly?", choices=("the bird", "the sun"), answer=0),
    Example(id="b", question="Why do plants need the sun?", choices=("to sleep", "to grow", "to run"), answer=1),
    Example(id="c", question="How many apples are left?", choices=("7", "12", "5", "24"), answer=0),
]
TASK = Task("animals", "Animals", "made up", load=lambda: EXAMPLES, max_new_tokens=6)
FREE = Example(id="f", question="How many apples?", gold_text="7")
FREE_TASK = Task(
    "count", "Count", "made up", load=lambda: [FREE], ask=lambda e: f"Question: {e.question}\nAnswer:",
    grade=lambda text, e: e.gold_text in text, gold=lambda e: e.gold_text, max_new_tokens=6,
)  # fmt: skip


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    tiny_lm.model.float()
    return tiny_lm


def made_adapter(lm: LanguageModel, store: Path, seed: int) -> tuple[AdapterRef, LoraWeights]:
    weights = lm.fresh_lora(seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in weights.tensors.items():
        if ".lora_B." in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
    return save_adapter(store, weights, "tiny"), weights


def per_char(lm: LanguageModel, weights: LoraWeights | None, latent: LatentSettings | None = None) -> list[list[float]]:
    with lm.adapted(weights):
        results = score_queries(lm, [TASK.query(e, "text") for e in EXAMPLES], move=moving(latent))
    return [[branch.per_char for branch in result.branches] for result in results]


def test_choices_are_ranked_and_the_numbers_are_what_their_names_say(lm: LanguageModel) -> None:
    items = evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=lm)
    for example, item, scores in zip(EXAMPLES, items, per_char(lm, None), strict=True):
        assert item.id == example.id
        assert list(item.scores) == scores
        assert item.choice == max(range(len(scores)), key=scores.__getitem__)
        assert item.correct == (item.choice == example.answer)
        gold = scores[example.answer]
        assert item.loss == pytest.approx(math.log(sum(math.exp(s - gold) for s in scores)))
        assert item.margin == pytest.approx(gold - max(s for i, s in enumerate(scores) if i != example.answer))
        assert item.gold_chars == len(example.choices[example.answer])
        assert item.gold_nll == pytest.approx(-gold * item.gold_chars)


def test_letters_are_ranked_where_the_profile_says_so(lm: LanguageModel) -> None:
    lm.profile = replace(lm.profile, answer_style="letter")
    items = evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=lm)
    raw = score_queries(lm, [TASK.query(EXAMPLES[0], "letter")])[0]
    assert items[0].scores == pytest.approx([branch.logprob for branch in raw.branches], abs=1e-4)
    assert items[0].gold_chars == 1


def test_an_adapter_is_worn_for_the_measurement_only(lm: LanguageModel, tmp_path: Path) -> None:
    reference, weights = made_adapter(lm, tmp_path, 1)
    before = evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=lm)
    worn = evaluate(TASK, EXAMPLES, AdaptedModel(members=(reference,)), "likelihood", lm=lm)
    assert [list(item.scores) for item in worn] == per_char(lm, weights)
    assert worn != before
    assert evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=lm) == before


@pytest.mark.parametrize("method", ["max_confidence", "majority_vote", "sum_logprobs"])
def test_members_answer_together(lm: LanguageModel, tmp_path: Path, method: str) -> None:
    made = [made_adapter(lm, tmp_path, seed) for seed in (1, 2)]
    adapted = AdaptedModel(members=(None, *(reference for reference, _ in made)), method=method)
    items = evaluate(TASK, EXAMPLES, adapted, "likelihood", lm=lm)
    each = [per_char(lm, weights) for weights in (None, *(weights for _, weights in made))]
    for q, item in enumerate(items):
        assert list(item.scores) == pytest.approx(combine([scores[q] for scores in each], method))
        golds = [-scores[q][EXAMPLES[q].answer] * item.gold_chars for scores in each]
        assert item.gold_nll == pytest.approx(sum(golds) / 3)


class OneHotEncoder:
    """Puts each question at a corner of its own."""

    def embed(self, prompts: list[str]) -> Tensor:
        assert prompts == [example.prompt for example in EXAMPLES]
        return torch.eye(3)


def test_each_question_is_answered_by_its_nearest_member_alone(lm: LanguageModel, tmp_path: Path) -> None:
    reference, weights = made_adapter(lm, tmp_path, 1)
    save_file({"centroids": torch.eye(3)[[1, 0]]}, tmp_path / "c.safetensors")
    adapted = AdaptedModel(
        members=(None, reference), method="avg_prompt_embed", centroids=str(tmp_path / "c.safetensors")
    )
    items = evaluate(TASK, EXAMPLES, adapted, "likelihood", lm=lm, encoder=OneHotEncoder())  # type: ignore[arg-type]
    base, worn = per_char(lm, None), per_char(lm, weights)
    assert [list(item.scores) for item in items] == [
        worn[0],
        base[1],
        base[2],
    ]  # "c" is as near to both: the first


def test_latent_settings_reach_the_scores(lm: LanguageModel) -> None:
    latent = LatentSettings(slot_steps=5, slot_lr=0.1)
    items = evaluate(TASK, EXAMPLES, AdaptedModel(latent=latent), "likelihood", lm=lm)
    assert [list(item.scores) for item in items] == per_char(lm, None, latent)
    assert [list(item.scores) for item in items] != per_char(lm, None)


@pytest.mark.parametrize("latent", [None, LatentSettings(slot_steps=2, slot_lr=0.1)])
def test_generated_texts_are_graded_and_the_gold_answer_is_scored(
    lm: LanguageModel, latent: LatentSettings | None
) -> None:
    item = evaluate(FREE_TASK, [FREE], AdaptedModel(latent=latent), "generate", lm=lm)[0]
    prompt = "Question: How many apples?\nAnswer:"
    [answer] = generate(lm, [prompt], max_new_tokens=6, stop=FREE_TASK.stop, move=moving(latent))
    text = answer.text
    gold = Query(prefix=prompt, branches=(Branch(scored=" 7"),))
    nll = -score_queries(lm, [gold], move=moving(latent))[0].branches[0].logprob
    assert item == Item(
        id="f", correct="7" in text, loss=nll, gold_nll=nll, gold_chars=1, text=text, choice=-1, gold=-1,
        confidence=answer.mean_prob,
    )  # fmt: skip


def test_a_written_answer_is_counted_once(lm: LanguageModel) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(FREE_TASK, [FREE], AdaptedModel(), "generate", lm=lm, progress=lambda *event: told.append(event))
    assert told == [("generate", 1, 1)]


def written(task: Task, example: Example, text: str, probability: float) -> Item:
    """A text of one token, whose gold answer of one letter has −3 nats."""
    return graded(task, example, Generated(text, math.log(probability), 1), QueryScore((BranchScore(-3.0, 2, 1),)))


@pytest.mark.parametrize(
    ("text", "choice", "correct"),
    [("B", 1, True), ("C. to run", 2, False), ("to sleep", 0, False), ("eat", -1, False)],
)
def test_generated_choices_name_the_index(text: str, choice: int, correct: bool) -> None:
    item = written(TASK, EXAMPLES[1], text, 0.5)
    assert (item.choice, item.gold, item.correct) == (choice, 1, correct)
    assert (item.loss, item.gold_nll, item.scores, item.confidence) == (3.0, 3.0, (), 0.5)
    assert item.guessing == pytest.approx(1 / len(EXAMPLES[1].choices))
    assert written(replace(TASK, ask=lambda e: e.question), EXAMPLES[1], text, 0.5).guessing == 0  # it shows none


def test_a_number_among_the_choices_is_found_by_the_tasks_own_grading() -> None:
    task = replace(TASK, grade=lambda text, e: text.split()[-1] == e.gold_text)
    example = EXAMPLES[2].model_copy(update={"gold_text": "7"})
    item = written(task, example, "A dog eats 5 of 12, so 12", 0.5)
    assert (item.choice, item.correct) == (1, False)


def answers(*pairs: tuple[str, float]) -> list[Item]:
    return [written(FREE_TASK, FREE, text, probability) for text, probability in pairs]


@pytest.mark.parametrize(
    ("method", "expected"),
    [("max_confidence", "It is 8"), ("majority_vote", "#### 7"), ("sum_logprobs", "#### 7")],
)
def test_members_texts_are_compared_by_their_answers(method: str, expected: str) -> None:
    given = answers(("5 + 2 = 7", 0.4), ("It is 8", 0.9), ("#### 7", 0.5), ("no idea", 0.2))
    if method == "sum_logprobs":
        given = answers(("5 + 2 = 7", 0.8), ("It is 8", 0.9), ("#### 7", 0.85), ("no idea", 0.2))
    given[3] = given[3].model_copy(update={"gold_nll": 7.0})
    agreed = together(FREE, given, method)
    assert agreed.text == expected
    assert agreed.correct == ("7" in expected)
    assert agreed.gold_nll == agreed.loss == (3 + 3 + 3 + 7) / 4


def test_one_sure_member_outweighs_two_unsure_ones_in_the_sum_only() -> None:
    given = answers(("1", 0.05), ("1", 0.05), ("2", 0.9999))
    assert together(FREE, given, "sum_logprobs").text == "2"
    assert together(FREE, given, "majority_vote").text == "1"


@pytest.mark.parametrize("protocol", ["likelihood", "generate"])
@pytest.mark.parametrize("method", ["max_confidence", "majority_vote", "sum_logprobs"])
def test_what_members_answer_together_follows_from_what_each_answers_alone(
    tiny_lm: LanguageModel, tmp_path: Path, method: str, protocol: AnswerProtocol
) -> None:
    """So answers of single adapters can be kept, and combined later to the same bits."""
    references = (None, *(made_adapter(tiny_lm, tmp_path, seed)[0] for seed in (1, 2)))
    whole = evaluate(TASK, EXAMPLES, AdaptedModel(members=references, method=method), protocol, lm=tiny_lm)
    each = []
    for i, reference in enumerate(references):
        save_items(
            tmp_path / f"{i}", evaluate(TASK, EXAMPLES, AdaptedModel(members=(reference,)), protocol, lm=tiny_lm)
        )
        each.append(load_items(tmp_path / f"{i}"))
    assert each[0] != each[1]
    assert [together(e, given, method) for e, given in zip(EXAMPLES, zip(*each, strict=True), strict=True)] == whole


def test_free_text_cannot_be_ranked(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="use the protocol generate"):
        evaluate(FREE_TASK, [FREE], AdaptedModel(), "likelihood", lm=lm)


def test_an_adapter_of_another_model_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    reference, _ = made_adapter(lm, tmp_path, 1)
    lm.sha256 = "0" * 64
    with pytest.raises(InputError, match="made for base model"):
        evaluate(TASK, EXAMPLES, AdaptedModel(members=(reference,)), "likelihood", lm=lm)


def test_prompts_beyond_the_context_are_counted(lm: LanguageModel) -> None:
    lm.model.config.max_position_embeddings = 30
    long = Example(id="l", question="the sun " * 60, choices=("to grow", "to run"), answer=0)
    told: list[tuple[str, int, int]] = []
    evaluate(
        TASK,
        [long, EXAMPLES[0]],
        AdaptedModel(),
        "likelihood",
        lm=lm,
        progress=lambda *event: told.append(event),
    )
    assert told[-1][0].startswith("prompts longer")
    assert told[-1][1:] == (1, 2)


def test_equal_inputs_give_equal_items(tiny_lm: LanguageModel) -> None:
    runs = [evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=tiny_lm) for _ in range(2)]
    assert runs[0] == runs[1]


def test_items_of_a_version_that_knew_fewer_keys_are_read_and_held_against_their_hash(tmp_path: Path) -> None:
    early = '{"id":"q","scores":[-1.0,-2.0],"choice":0,"gold":0,"correct":true,"loss":0.31}'
    seal = hashlib.sha256(early.encode()).hexdigest()
    path = tmp_path / "items.jsonl"
    path.write_text(f'{early[:-1]},"sha256":"{seal}"}}\n')
    assert load_items(path) == [Item(id="q", scores=(-1.0, -2.0), choice=0, gold=0, correct=True, loss=0.31)]
    path.write_text(path.read_text().replace("-2.0", "-2.5"))
    with pytest.raises(InputError, match="does not match its hash"):
        load_items(path)


def test_items_survive_their_file_and_damage_is_named(tmp_path: Path) -> None:
    items = [
        Item(id="a", scores=(-0.1, 1e-17), choice=1, gold=0, correct=False, loss=0.7, margin=-0.1),
        Item(id="b", correct=True, loss=0.25, text="ends \u2028 here\n\"quoted\" é🎉"),
    ]  # fmt: skip
    path = tmp_path / "items.jsonl"
    save_items(path, items)
    assert load_items(path) == items
    assert len(path.read_text().split("\n")) == 3
    path.write_text(path.read_text()[:-30])
    with pytest.raises(InputError, match=r"items.jsonl:2: no item"):
        load_items(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_items(tmp_path / "missing.jsonl")
