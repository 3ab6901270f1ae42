"""The whole of stages 1 and 2 on a tiny random model: what it leaves, what a kill costs, what it refuses."""

import io
import json
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import cao
from agent.config import settings_of
from agent.consolidate import main, parser
from agent.train.clock import Clock, span
from agent.train.generator import run as consolidation_run
from agent.train.generator.index import recovery, summary
from agent.train.generator.options import ConsolidateOptions
from agent.train.generator.run import open_consolidation
from agent.train.generator.settings import Settings
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import variants
from cao.files import sha256_bytes, sha256_file
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import weights_sha256
from cao.progress import silent
from tests.agent import tiny_pretrained
from tests.agent.train.generator.tiny_consolidation import FOLDER, LEFT_OUT, SOURCES, command, killed
from tests.tools.tiny_training import plain_loss
from tools import pretrained
from tools.align_lora import find_aligner
from tools.align_lora.aligner import load_aligner
from tools.generate_lora import find_generator
from tools.generate_lora.generator import load_generator

pytestmark = pytest.mark.slow

WITHOUT = f"without-{LEFT_OUT}"
VARIANTS = {"full": list(SOURCES), WITHOUT: ["arc_easy"]}


@dataclass
class Ended:
    """What one call of the command came to."""

    code: int
    out: str
    err: str


def call(argv: list[str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    return Ended(code, out.getvalue(), err.getvalue())


@dataclass
class Finished:
    """A consolidation from nothing that nothing disturbed; tests read its folder and do not change it."""

    ended: Ended
    out: Path
    model: Path

    @property
    def folder(self) -> Path:
        return self.out / FOLDER

    def command(self, *more: str) -> list[str]:
        return command(self.model, self.out, *more)

    def copy(self, out: Path, *without: str) -> Path:
        """Copy the folder less what matches one of the patterns, and the index; returns the copy."""
        shutil.copytree(self.folder, out / FOLDER)
        for pattern in (*without, "index.json", ".lock"):
            for path in (out / FOLDER).glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return out / FOLDER


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("consolidation")
    return Finished(call(command(tiny_model_folder, out, "--json")), out, tiny_model_folder)


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return tiny_pretrained.load(tiny_model_folder)


def opened(model: Path, out: Path) -> Consolidation:
    """The consolidation of a folder, to call its steps."""
    options = settings_of(ConsolidateOptions, parser().parse_args(command(model, out)), "consolidate")
    return open_consolidation(Settings(**dict(options)), silent)


def content(folder: Path) -> dict[str, str]:
    """The hash of every file, and so the names too; the lock is no part of what was made."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def one_line(ended: Ended) -> str:
    """The message of a refusal: one line, nothing on standard output."""
    assert (ended.out, ended.err.count("error: "), ended.err.count("\n")) == ("", 1, 1), ended
    return ended.err


# what it leaves ------------------------------------------------------------------------------------------------------


def test_one_call_leaves_every_part_and_prints_the_index(finished: Finished) -> None:
    assert finished.ended.code == 0, finished.ended.err
    assert json.loads(finished.ended.out) == json.loads((finished.folder / "index.json").read_text())
    assert finished.ended.out.startswith("{")
    collected = [*(f"checkpoints/{task}" for task in SOURCES), *(f"unions/{name}" for name in VARIANTS)]
    made = ("generator.safetensors", "generator-losses.json", "aligner.safetensors", "aligner-losses.json")
    expected = {
        *("config.json", "model.json", "index.json"),
        *(f"{kind}/{task}" for task in SOURCES for kind in ("data", "states", "validation")),
        *(name for stem in collected for name in (stem, f"{stem}-average")),
        *(f"variants/{name}/{part}" for name in VARIANTS for part in made),
    }
    found = content(finished.folder)
    plain = {name if name in expected else name.rsplit(".", 1)[0] for name in found}
    assert plain == expected
    assert len(found) == len(expected)
    for stage in ("states", "checkpoints", "union", "variant"):
        assert f"] {stage} " in finished.ended.err
    assert "[8/8 done]" in finished.ended.err
    assert list(finished.out.iterdir()) == [finished.folder]


def test_the_index_says_how_each_part_was_made(finished: Finished, lm: LanguageModel) -> None:
    index = pretrained.read_index(finished.folder / "index.json")
    assert index is not None
    assert list(index.models) == [lm.sha256]
    shelf = index.models[lm.sha256]
    assert shelf.name == tiny_pretrained.MODEL
    assert {entry.name: list(entry.sources) for entry in shelf.variants} == VARIANTS
    assert {entry.name: entry.leaves_out for entry in shelf.variants} == {"full": (), WITHOUT: (LEFT_OUT,)}
    for entry in shelf.variants:
        assert entry.aligner is not None
        generator = load_generator(finished.folder / entry.generator.path, lm.sha256)
        initial, place = generator.initial, finished.folder / entry.aligner.path
        aligner = load_aligner(place, generator.layout, initial, generator_sha256=generator.sha256)
        assert (entry.generator.sha256, entry.aligner.sha256) == (generator.sha256, aligner.sha256)
        losses = json.loads((place.parent / "generator-losses.json").read_text())
        curve = json.loads((place.parent / "aligner-losses.json").read_text())
        made = dict(entry.made)
        told = made.pop("aligner")
        assert told["tasks"].split() == list(entry.sources)
        assert float(told["mse_last_tenth"]) == pytest.approx(sum(mse for mse, _ in curve[-2:]) / 2, abs=1e-6)
        validation = made.pop("validation")
        assert {task: set(found) for task, found in validation.items()} == {
            task: {"base", "checkpoint", "generated"} for task in entry.sources
        }
        assert made == {
            "preset": "embedded",
            "seed": 0,
            "initial_seed": 0,
            "encoder_sha256": Encoder(minilm_folder()).sha256,
            "layout_sha256": generator.layout.sha256,
            "code_version": cao.__version__,
            "config_sha256": sha256_file(finished.folder / "config.json"),
            "steps": 10,
            "sources": list(entry.sources),
            "data_sha256": {task: sha256_file(finished.folder / "data" / f"{task}.jsonl") for task in entry.sources},
            "reconstruction_loss": pytest.approx(sum(a for a, _ in losses) / 10),
            "answer_loss": pytest.approx(sum(b for _, b in losses) / 10),
        }
        assert [b > 0 for _, b in losses] == [step >= 5 for step in range(10)]
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["model_path_sha256"] == weights_sha256(finished.model)
    assert config["preset"]["generator"]["steps"] == 10


def test_what_is_measured_on_is_kept_from_all_training(finished: Finished, lm: LanguageModel) -> None:
    consolidation = opened(finished.model, finished.out)
    examples = consolidation.examples("arc_easy")
    assert len(examples) == 40
    trained, measured = consolidation.rows("arc_easy")
    assert (len(trained), len(measured)) == (36, 4)
    assert not {tuple(row.tokens) for row in trained} & {tuple(row.tokens) for row in measured}
    kept = [example.prompt for i, example in enumerate(examples) if i % 10][:8]
    states, (hidden, mask) = consolidation.states("arc_easy"), Encoder(minilm_folder()).condition(kept)
    assert [len(state) for state in states] == mask.sum(1).tolist()
    assert all(
        torch.allclose(state.float(), row[where], atol=2e-3)
        for state, row, where in zip(states, hidden, mask, strict=True)
    )
    base = json.loads((finished.folder / "validation" / "arc_easy.json").read_text())["base"]
    assert base == pytest.approx(float(plain_loss(lm, {}, measured, 1.0)), abs=0.02)  # bf16 against bf16 in a batch
    residuals = load_file(finished.folder / "checkpoints" / "arc_easy.safetensors")["residuals"]
    average = load_file(finished.folder / "checkpoints" / "arc_easy-average.safetensors")["residual"]
    assert residuals.shape == (5, 2, 4096)
    assert torch.equal(average, residuals.float().mean(0).to(torch.bfloat16))
    assert not torch.equal(residuals[0], residuals[4])


def test_a_generator_that_leaves_a_task_out_needs_nothing_of_it(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, f"variants/{WITHOUT}", "validation", f"*/{LEFT_OUT}*", "unions", "variants/full")
    consolidation = opened(finished.model, tmp_path)
    [variant] = [variant for variant in variants(consolidation.preset) if variant.leaves_out]
    consolidation.aligner(variant)
    for part in ("generator", "aligner"):
        name = f"variants/{WITHOUT}/{part}.safetensors"
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()
    assert not list(folder.rglob(f"{LEFT_OUT}*"))
    assert not (finished.folder / "variants" / "without-piqa").exists()


def test_another_call_loads_no_model_and_writes_nothing_anew(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stamps() -> dict[str, tuple[int, int]]:
        skipped = (".lock", "index.json")  # the index is written anew, with the same content
        files = [path for path in finished.folder.rglob("*") if path.is_file() and path.name not in skipped]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to do")

    before, made = stamps(), content(finished.folder)
    for name in ("load_model", "Encoder", "Clock"):
        monkeypatch.setattr(consolidation_run, name, refuse)
    ended = call(finished.command())
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{finished.folder}:\n")
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["full", WITHOUT, "Add"]
    assert stamps() == before
    assert content(finished.folder) == made


def test_installed_parts_are_found_beside_those_of_other_models(
    finished: Finished, lm: LanguageModel, tmp_path: Path
) -> None:
    index = tmp_path / "pretrained" / "index.json"
    install = ("--install", "--pretrained", str(index.parent))
    other, old = "0" * 64, {"path": "old/generator.safetensors", "sha256": "1" * 64}
    theirs = {"path": f"{tiny_pretrained.MODEL}/full/generator.safetensors", "sha256": "2" * 64}
    shelves = {
        model: {"name": tiny_pretrained.MODEL, "variants": [{"name": "full", "sources": ["piqa"], "generator": part}]}
        for model, part in ((other, theirs), (lm.sha256, old))
    }
    for part in (old, theirs):
        (index.parent / part["path"]).parent.mkdir(parents=True)
        (index.parent / part["path"]).write_bytes(b"weights")
    index.write_text(json.dumps({"format": 1, "models": shelves}))
    for _ in range(2):  # over itself too
        ended = call(finished.command(*install))
        assert ended.code == 0, ended.err
        assert f"Installed in {index.parent}." in ended.out
        for task, variant in ((None, "full"), ("arc_easy", "full"), ("piqa", "full"), (LEFT_OUT, WITHOUT)):
            generator = find_generator(lm.sha256, task, index=index)
            assert generator is not None
            aligner = find_aligner(generator, index)
            assert aligner is not None
            assert generator.made["sources"] == VARIANTS[variant]
            parts = finished.folder / "variants" / variant
            assert generator.sha256 == load_generator(parts / "generator.safetensors", lm.sha256).sha256
            assert aligner.header.generator_sha256 == generator.sha256
        assert (index.parent / theirs["path"]).read_bytes() == b"weights"
        assert not (index.parent / old["path"]).exists()  # it served this model before
        found = json.loads(index.read_text())
        assert found["models"][other]["variants"][0]["generator"] == theirs
        assert len([path for path in index.parent.rglob("*") if path.is_file()]) == 6
    index.write_text("{")
    assert str(index) in one_line(call(finished.command(*install)))


# kills ---------------------------------------------------------------------------------------------------------------

KILLS = [
    ("states/arc_easy.safetensors", "encode openbookqa", ("*",)),
    ("variants/full/generator.partial", "generator full", ("validation", "variants")),
    ("validation/openbookqa.json", "validate full", ("validation", "variants")),
    (f"variants/{WITHOUT}/aligner.partial", f"aligner {WITHOUT}", (f"variants/{WITHOUT}",)),
]
"""A file that is there during the work, the work, and what is not made before it."""


@pytest.mark.parametrize(("awaited", "work", "without"), KILLS, ids=[work for _, work, _ in KILLS])
def test_a_killed_consolidation_ends_in_the_same_bytes(
    awaited: str,
    work: str,
    without: tuple[str, ...],
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, argv = finished.copy(tmp_path, *without), command(finished.model, tmp_path)
    assert killed(argv, folder / awaited, work) == -9
    assert (folder / awaited).exists()
    assert not (folder / "index.json").exists()
    heard = heard_of(monkeypatch)
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert content(folder) == content(finished.folder)
    if awaited.endswith(".partial"):  # goes on from there, not from the first step
        assert min(done for label, done in heard if label == work) > 1
    assert not list(folder.rglob("*.partial"))


def heard_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Listen to progress: (label, done)."""
    heard, tell = [], Clock.progress

    def listen(self: Clock, label: str, done: int, total: int) -> None:
        heard.append((label, done))
        tell(self, label, done, total)

    monkeypatch.setattr(Clock, "progress", listen)
    return heard


def test_a_folder_at_work_is_refused_and_a_kill_frees_it(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.copy(tmp_path, "checkpoints", "unions", "validation", "variants")
    argv, awaited = command(finished.model, tmp_path), folder / "checkpoints" / "arc_easy.partial"
    refused: list[Ended] = []
    assert killed(argv, awaited, "checkpoints/arc_easy", lambda: refused.append(call(argv))) == -9
    [ended] = refused
    assert ended.code == 2
    assert f"{FOLDER} is at work in another process" in one_line(ended)
    assert not (folder / "checkpoints" / "arc_easy.safetensors").exists()
    heard = heard_of(monkeypatch)
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert min(done for label, done in heard if label == "checkpoints/arc_easy") > 1
    assert content(folder) == content(finished.folder)


def test_workers_make_the_same_bytes_and_leave_with_a_killed_parent(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "checkpoints", "unions", "validation", "variants")
    argv = command(finished.model, tmp_path, "--workers", "2")
    aligner = folder / "variants" / WITHOUT / "aligner.partial"
    assert killed(argv, aligner, f"aligner {WITHOUT}") == -9
    assert not aligner.with_suffix(".safetensors").exists()
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert content(folder) == content(finished.folder)


def test_an_interrupt_ends_with_130_and_the_same_command_goes_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, argv = finished.copy(tmp_path, "validation", "variants"), command(finished.model, tmp_path)

    def interrupt(self: Clock, label: str, done: int, total: int) -> None:
        if label == "task vectors openbookqa":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "progress", interrupt)
        ended = call(argv)
    assert (ended.code, ended.out, ended.err) == (130, "", "interrupted\n")
    assert (folder / "variants" / "full" / "generator.safetensors").exists()
    assert call(argv).code == 0
    assert content(folder) == content(finished.folder)


# refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("generator.steps=11", "preset.generator.steps"),
        ('sources=["arc_easy"]', "preset.sources"),
        ("aligner.kl=0.1", "preset.aligner.kl"),
    ],
)
def test_other_settings_for_a_folder_are_refused_by_name(assignment: str, named: str, finished: Finished) -> None:
    before = content(finished.folder)
    argv = finished.command("--set", assignment, *(["--set", "leave_out=[]"] if named == "preset.sources" else []))
    ended = call(argv)
    assert ended.code == 2
    message = one_line(ended)
    assert str(finished.folder) in message
    assert named in message
    assert "another --out" in message
    assert "kept_steps" not in message
    assert content(finished.folder) == before


def test_another_model_for_a_folder_is_refused(finished: Finished, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(finished.model, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 2
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    ended = call(command(model, finished.out))
    assert ended.code == 2
    assert "model_path_sha256" in one_line(ended)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--preset", "huge"], 2, "unknown preset 'huge'; known: embedded, paper-0.5b, paper-1.5b"),
        (["--model", "gpt"], 2, "unknown model 'gpt'; known: smollm2-135m, qwen2.5-0.5b, qwen2.5-1.5b"),
        (["--workers", "0"], 2, "--workers 0: Input should be"),
        (["--seed", "-1"], 2, "--seed -1: Input should be"),
        (["--device", "tpu"], 2, "unknown device 'tpu'; known: cpu, cuda"),
        (["--set", 'sources=["arc_easy","nonsense"]'], 2, "no task is called 'nonsense'"),
        (["--set", 'sources=["arc_easy","arc_easy"]'], 2, "a task is given twice"),
        (["--set", "sources=[]"], 2, "there are none"),
        (["--set", 'sources=["openbookqa"]'], 2, "add --set leave_out=[]"),
        (["--set", 'leave_out=["nonsense"]'], 2, "no task is called 'nonsense'"),
        (["--set", "generator.step=3"], 2, "generator.step: unknown key"),
        (["--set", "name=other"], 2, "name: unknown key"),
        (["--set", "generator.steps"], 2, "write it as key=value"),
        (["--set", "generator.steps=ten"], 2, "--set generator.steps: Input should be a valid integer"),
        (["--set", "generator.steps=true"], 2, "--set generator.steps: Input should be a valid integer"),
        (["--set", "generator.steps=0"], 2, "--set generator.steps: Input should be greater than or equal to 1"),
        (["--set", "generator.rate=nan"], 2, "--set generator.rate: Input should be"),
        (["--set", "statistics=median"], 2, "'layer' or 'element'"),
        (["--set", "token=[16]"], 2, "--set token"),
        (["--set", "ladder.kernel=4"], 2, "kernel is odd"),
        (["--set", "ladder.shapes=[[4,100,384],[16,16,32]]"], 2, "begins at (N, 384, 384)"),
        (["--set", "ladder.shapes=[[4,384,384],[16,8,32]]"], 2, "too small for tokens of (16, 32)"),
        (["--set", "ladder.shapes=[[4,384,384],[15,16,32]]"], 2, "makes 15 tokens, this model has 16"),
        (["--set", "generator.reconstruction=0"], 2, "generator.behaviour_from=0"),
        (["--set", "aligner.widths=[2,2,2,2,2,2,2,2,2]"], 2, "not the sizes of a Fusion VAE"),
        (["--set", "model_path=7"], 2, "--set model_path: Input should be a valid string"),
        (["--set", "model_path=nowhere"], 3, "give one with --set model_path=DIR"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    more: list[str], code: int, words: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    ended = call(command(tiny_model_folder, tmp_path / "runs", *more))
    assert ended.code == code, ended.err
    assert words in one_line(ended)
    assert not [path for path in tmp_path.rglob("config.json") if path.is_file()]
    assert not list(tmp_path.rglob("data"))


def test_a_folder_that_cannot_be_made_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = call(command(tiny_model_folder, tmp_path / "file"))
    assert ended.code == 2
    assert "choose another --out" in one_line(ended)


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "name",
    [
        "states/arc_easy.safetensors",
        "checkpoints/arc_easy.safetensors",
        "checkpoints/arc_easy-average.safetensors",
        "validation/arc_easy.json",
        "variants/full/generator.safetensors",
        f"variants/{WITHOUT}/generator.partial",
        "data/arc_easy.jsonl",
        "config.json",
        "model.json",
    ],
)
def test_a_damaged_file_is_named_and_can_be_made_again(name: str, finished: Finished, tmp_path: Path) -> None:
    left = [f"variants/{WITHOUT}", *(["variants/full/aligner*"] if name.startswith("variants/full") else [])]
    folder, argv = finished.copy(tmp_path, *left), command(finished.model, tmp_path)
    path = folder / name
    if name.endswith(".partial"):
        path.parent.mkdir()
        path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    else:
        halved(path)
    ended = call(argv)
    assert ended.code == 2, ended.err
    [message] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert str(path) in message
    assert "Traceback" not in ended.err
    assert ended.out == ""
    if "delete it" in message:
        path.unlink()
        ended = call(argv)
        assert ended.code == 0, ended.err
        assert content(folder) == content(finished.folder)
    else:
        assert name.startswith(("data", "variants")), message


def test_a_worker_that_meets_a_damaged_file_ends_all_of_it(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "states/arc_easy*", "variants")
    halved(folder / "data" / "arc_easy.jsonl")
    ended = call(command(finished.model, tmp_path, "--workers", "2"))
    assert ended.code == 2
    assert f"{folder}/data/arc_easy.jsonl: damaged" in one_line(ended)
    assert not (folder / "variants").exists()


# clock and words -----------------------------------------------------------------------------------------------------


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock's time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_a_piece_of_work_is_told_of_every_ten_seconds_and_at_its_end(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock([], 0)
    for done in range(1, 22):
        at(100 + 2 * (done - 1))
        clock.progress("generator full", done, 21)
    assert capsys.readouterr().err.splitlines() == [
        "generator full: 1 of 21",  # from one report alone nothing can be said
        "generator full: 6 of 21, 30 s left",  # five steps in ten seconds, fifteen to go
        "generator full: 11 of 21, 20 s left",
        "generator full: 16 of 21, 10 s left",
        "generator full: 21 of 21",
    ]


def test_work_that_goes_on_is_timed_from_where_it_went_on(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock([], 0)
    for seconds, label, done in ((0, "a", 900), (20, "a", 910), (30, "a", 1), (50, "a", 5), (60, "b", 3)):
        at(seconds)
        clock.progress(label, done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "a: 900 of 1000",
        "a: 910 of 1000, 3 min left",  # 2 s a step, 90 steps: not the 900 steps that another process did
        "a: 1 of 1000",  # the same work for another variant
        "a: 5 of 1000, 83 min left",  # 5 s a step
        "b: 3 of 1000",
    ]


def test_the_rest_is_reckoned_from_the_kinds_of_jobs_that_were_timed(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [("states", "a"), ("states", "b"), ("union", "full"), ("variant", "full"), ("variant", "without-a")]
    clock = Clock(jobs, 7, workers=2)
    for job, seconds in zip(jobs, (10.0, 30.0, 40.0, 4000.0, 1.0), strict=True):
        clock.finished(job, seconds)
    assert capsys.readouterr().err.splitlines() == [
        "[3/7 done] states a took 10 s; about 5 s and 1 union and 2 variant jobs, of which none is timed yet left",
        "[4/7 done] states b took 30 s; 1 union and 2 variant jobs, of which none is timed yet left",
        "[5/7 done] union full took 40 s; 2 variant jobs, of which none is timed yet left",
        "[6/7 done] variant full took 67 min; about 33 min left",
        "[7/7 done] variant without-a took 1 s",
    ]


def test_durations_are_for_people() -> None:
    assert [span(s) for s in (0.4, 89, 90, 3600, 5399, 5400, 86400)] == [
        *("0 s", "89 s", "2 min", "60 min", "90 min", "1.5 h", "24.0 h")
    ]


def test_recovery_is_the_share_of_the_checkpoints_gain() -> None:
    validation = {
        "half": {"base": 2.0, "checkpoint": 1.0, "generated": 1.5},
        "worse": {"base": 2.0, "checkpoint": 1.5, "generated": 2.25},
        "better": {"base": 1.0, "checkpoint": 0.75, "generated": 0.5},
        "no gain": {"base": 1.0, "checkpoint": 1.0, "generated": 0.5},
        "harm": {"base": 1.0, "checkpoint": 1.25, "generated": 0.5},
    }
    assert recovery(validation) == {"half": 0.5, "worse": -0.5, "better": 2.0}
    assert recovery({}) == {}


def test_the_summary_averages_over_the_sources_that_gain(tmp_path: Path) -> None:
    part = {"path": "x.safetensors", "sha256": sha256_bytes(b"")}
    gains = {
        "a": {"base": 2.0, "checkpoint": 1.0, "generated": 1.5},
        "b": {"base": 2.0, "checkpoint": 1.0, "generated": 1.0},
    }
    entries = [
        {"name": "full", "sources": ["a", "b"], "generator": part, "made": {"validation": gains}},
        {"name": "without-a", "sources": ["b"], "generator": part, "made": {}},
    ]
    models = {"0" * 64: {"name": "m", "variants": entries}}
    (tmp_path / "index.json").write_text(json.dumps({"format": 1, "models": models}))
    first, full, without, last = summary(tmp_path).splitlines()
    assert first == f"{tmp_path}:"
    assert " ".join(full.split()) == "full recovers 0.75 of the checkpoints' gain on 2 sources"
    assert " ".join(without.split()) == "without-a no source's checkpoint gains anything that could be recovered"
    assert last == "Add --install to use it in agent.run."
    assert "Installed in here." in summary(tmp_path, Path("here"))
