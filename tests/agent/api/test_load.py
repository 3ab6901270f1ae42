"""``load``: a run's folder and an exported one answer as the run's own model; anything else is refused in one line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from agent.export import main as export
from agent.handover.settings import CAO_FILE
from cao import load
from cao.errors import InputError
from cao.files import SUMS
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.tasks.question_file import load_user_task
from cao.types import AdaptedModel, AnswerRule, LatentSettings
from tests.agent.api.conftest import Made
from tools.apply_strategy.tts import centroids
from tools.evaluate import evaluate

CHOICES = ["yes", "no"]


@pytest.fixture(scope="module")
def exported(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "served"
    words = [made.run.record.run_id, "--out", str(made.run.folder.parent), "--to", str(to), "--merge", "--offline"]
    assert export(words) == 0
    return to


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, without the hashes that would refuse what a test changes."""
    return Path(shutil.copytree(exported, tmp_path / "copy", ignore=shutil.ignore_patterns(SUMS)))


def changed(folder: Path, **keys: Any) -> Path:
    """Change keys of a folder's cao.json."""
    file = folder / CAO_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    return folder


def scores(answers: list[Any]) -> list[list[float]]:
    return [list(one.scores) for one in answers]


def test_a_runs_folder_needs_nothing_but_itself(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Path(shutil.copytree(made.run.folder, tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    assert load("kept").answer_all(made.questions()) == made.run.model.answer_all(made.questions())
    assert (load(moved).lm.dtype, moved.name) == ("float32", "kept")


def test_an_exported_folder_answers_alike(made: Made, exported: Path) -> None:
    questions, ours = made.questions(), made.run.model
    model = load(exported, **made.base)
    assert model.answer_all(questions) == ours.answer_all(questions)
    assert model.generate("the bird can") == ours.generate("the bird can")
    assert model.answer("what can the bird do?") == ours.answer("what can the bird do?")
    merged = load(exported / "merged", dtype="float32")
    assert merged.adapted.members == (None,)
    for one, other in zip(scores(merged.answer_all(questions)), scores(ours.answer_all(questions)), strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("members", [["."], [None, "."]])
@pytest.mark.parametrize(
    "settings",
    [
        {"latent": {"slot_steps": 3, "slot_lr": 0.05}},
        {"answer_rule": {"prior": "choice", "strength": 1.0, "length": "none"}},
        {"answer_rule": {"prior": "batch", "strength": 0.5, "length": "char"}},
    ],
    ids=["latent", "choice", "batch"],
)
def test_what_is_no_weights_takes_effect(
    made: Made, copy: Path, tmp_path: Path, settings: dict[str, Any], members: list[str | None]
) -> None:
    rows = [{"question": f"does the bird fly {n} times?", "choices": CHOICES, "answer": n % 2} for n in range(6)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_user_task(path)
    plain = load(copy, **made.base)
    (adapter,) = plain.adapted.members
    adapted = AdaptedModel(
        members=tuple(member and adapter for member in members),
        method="sum_logprobs" if len(members) > 1 else None,
        latent=LatentSettings(**settings["latent"]) if "latent" in settings else None,
        answer_rule=AnswerRule(**settings.get("answer_rule", {})),
    )
    batch = settings.get("answer_rule", {}).get("prior") == "batch"
    wanted = evaluate(task, task.load(), adapted, "likelihood", lm=plain.lm, support=task.load())
    kept = json.loads((copy / CAO_FILE).read_text())["answering"]
    answering = {**kept, "priors": priors_of(plain, task, adapted) if batch else []}
    told = {"members": members, "method": adapted.method, "answering": answering, "answer_rule": None}
    model = load(changed(copy, **{**told, **settings}), **made.base)
    found = model.answer_all([{"question": one.question, "choices": one.choices} for one in task.load()])
    assert scores(found) == [pytest.approx(item.scores, abs=1e-5) for item in wanted]
    assert [one.choice for one in found] == [item.choice for item in wanted]
    usual = replace(plain, adapted=plain.adapted.under(AnswerRule()))
    assert scores(found) != scores(usual.answer_all([one.model_dump() for one in task.load()]))


def priors_of(model: Any, task: Any, adapted: AdaptedModel) -> list[dict[str, float]]:
    from tools.evaluate import HiddenCache, prior_of

    each = range(len(adapted.members))
    asked = task.load()
    return [dict(prior_of(adapted, one, task, asked, asked, lm=model.lm, states=HiddenCache())) for one in each]


def test_each_question_goes_to_its_own_adapter(made: Made, copy: Path) -> None:
    encoder = Encoder(minilm_folder())
    near = [encoder.embed(["the bird can fly"]), encoder.embed(["how much is 12 plus 7?"])]
    save_file({"places": centroids(near, "avg_prompt_embed").contiguous()}, copy / "routes.safetensors")
    plain = load(changed(copy, answer_rule=None), **made.base)
    base = load(changed(copy, members=[None]), **made.base)
    both = {"members": [".", None], "method": "avg_prompt_embed", "routes": "routes.safetensors"}
    model = load(changed(copy, **both), **made.base)
    bird, sum_ = [{"question": text, "choices": CHOICES} for text in ("can the bird fly?", "how much is 12 plus 9?")]
    assert scores(model.answer_all([bird, sum_])) == [
        pytest.approx(scores(plain.answer_all([bird]))[0], abs=1e-5),
        pytest.approx(scores(base.answer_all([sum_]))[0], abs=1e-5),
    ]
    save_file({"places": torch.zeros(3, 384)}, copy / "routes.safetensors")
    with pytest.raises(InputError, match="holds no routes to 2 adapters"):
        load(copy, **made.base)


def test_a_calibrated_model_says_which_choices_it_knows(made: Made, copy: Path) -> None:
    rule = {"prior": "batch", "strength": 1.0, "length": "char"}
    answering = {**json.loads((copy / CAO_FILE).read_text())["answering"], "priors": [{" A": -0.5, " B": -0.9}]}
    model = load(changed(copy, answer_rule=rule, answering=answering), **made.base)
    assert model.answer("does it fly?", CHOICES).text in CHOICES
    with pytest.raises(InputError, match="not answered: the prior batch needs choices that are the same words"):
        model.answer("does it fly?", [*CHOICES, "perhaps"])


def truncated(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flipped(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-50] ^= 4
    file.write_bytes(content)


def written(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / CAO_FILE).write_text(text) and None


def set_to(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: changed(folder, **keys) and None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "damaged or not safetensors"),
        (flipped, "it was changed"),
        (written("{"), r"cao.json: cannot be used; .*; export the run again"),
        (written("[" * 100_000), "cao.json: cannot be used"),
        (written(" " * 5_000_000), "cao.json: larger than 4 MB"),
        (written("\udcff".encode("utf-8", "surrogateescape").decode("latin-1")), "cao.json: cannot be used"),
        (set_to(version=3), "cao.json: cannot be used; version"),
        (set_to(members=["../elsewhere"]), "which is not in the folder"),
        (set_to(members=["/etc"]), "which is not in the folder"),
        (set_to(members=["a\0b"]), "which is not in the folder"),
        (set_to(members=["nowhere"]), "no adapter_config.json"),
        (set_to(members=[]), "cannot be used; members"),
        (set_to(members=[".", "."]), "no method by which they answer together"),
        (set_to(members=[".", "."], method="avg_sim_score"), "the method and the routes do not fit"),
        (set_to(latent={"slot_steps": 10**9, "slot_lr": 0.1}), "cannot be used"),
        (set_to(answering={}), "a prior of each member, which is not there"),
        (set_to(base_sha256="0" * 64), "holds other weights than .* give the base model with model="),
        (set_to(base_model="no-such"), "unknown model 'no-such'"),
        (set_to(colour="\x1b[31m"), r"cannot be used; colour: unknown key"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    made: Made, copy: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(copy)
    base = {key: value for key, value in made.base.items() if key != "model"}
    with pytest.raises(InputError, match=words) as raised:
        load(copy, **base)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_foreign_folder_is_told_what_it_lacks(made: Made, exported: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", "a\0b"):
        with pytest.raises(InputError, match="is neither a run's folder nor one that export wrote"):
            load(folder)
    with pytest.raises(InputError, match=r"is an adapter alone, .*--set start_adapter=DIR"):
        load(made.run.folder / "adapter")
    models = tmp_path / "models"
    models.mkdir()
    (models / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="is neither a run's folder nor one that export wrote"):
        load(models)
    with pytest.raises(InputError, match=r"load: colour: unknown key; known: .*folder"):
        load(exported, colour=1)  # type: ignore[call-arg]


def test_a_damaged_run_is_refused_in_one_line(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made.run.folder, tmp_path / "kept", ignore=shutil.ignore_patterns(SUMS)))
    record = json.loads((folder / "run.json").read_text())

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words) as raised:
            load(folder)
        assert "\n" not in str(raised.value)

    (folder / "answering.json").write_text('{"stop": 7}')
    refused("answering.json: damaged; stop: .*; do the run again")
    (folder / "answering.json").unlink()  # as in a run of a version that kept nothing of it
    refused("a prior of each member, which is not there; do the run again")
    adopted = {**record["adopted"], "answer_rule": {"prior": "choice", "strength": 1.0}}
    (folder / "run.json").write_text(json.dumps({**record, "adopted": adopted}))
    assert load(folder).answer("can it fly?", CHOICES).text in CHOICES
    (folder / "run.json").write_text(json.dumps({**record, "adopted": {**adopted, "adapter": None}}))
    assert load(folder).adapted.members == (None,)
    (folder / "run.json").write_text(json.dumps({**record, "schema_version": None}))
    refused("too old to be loaded")
    (folder / "run.json").unlink()
    refused("this run has not ended; go on with: .*--resume kept")


def test_without_choices_a_run_that_ranked_is_asked_by_its_chat_template(made: Made) -> None:
    """Its own questions were ranked, so nothing was said of a template; whoever asks for a text is to get one."""
    model = made.run.model
    ranked = replace(model, handed=model.handed.model_copy(update={"protocol": "likelihood"}))
    off = replace(
        ranked,
        handed=ranked.handed.model_copy(
            update={"answering": ranked.handed.answering.model_copy(update={"chat": False})}
        ),
    )
    on = replace(
        ranked,
        handed=ranked.handed.model_copy(
            update={"answering": ranked.handed.answering.model_copy(update={"chat": True})}
        ),
    )
    written = off.answer("can it fly?")
    assert written == on.answer("can it fly?")
    assert written.text == written.text.strip()
    with pytest.raises(InputError, match="'choices' must be a list of texts"):
        model.answer("can it fly?", "no")
