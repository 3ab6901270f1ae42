"""Watches, consolidations, trainings of the policy and tables, killed twice in a row, end as undisturbed ones."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import consolidate, watch
from cao.files import sha256_file
from eval import tables
from tests.agent.stream.test_watch import SUMS
from tests.agent.tiny_pretrained import MODEL
from tests.agent.train.generator.finished import content
from tests.agent.train.generator.tiny_consolidation import FOLDER
from tests.agent.train.generator.tiny_consolidation import command as consolidation
from tests.agent.train.policy.test_train_policy import arguments as training
from tests.agent.train.policy.tiny_policy_training import train
from tests.survival.conftest import Whole
from tests.survival.deaths import Passed, lived, moments

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("only_long")]

Tell = Callable[[str], None]
Many = Callable[[int, int], int]
Command = Callable[[list[str]], int]
RUN = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")


def survived(
    command: Command,
    argv: Callable[[Path], list[str]],
    left: Callable[[Path], object],
    place: Path,
    draw: random.Random,
    tries: int,
) -> int:
    """Return how many tries of a command, each killed at two random moments, left what an undisturbed one leaves.

    Args:
        command: a function of a module.
        argv: folder → its arguments.
        left: folder → what it left there, to be compared.
        place: for all folders.
        draw: of the moments.
        tries: how many.
    """
    assert lived(command, argv(place / "whole"), passed=place / "passed") == 0
    seconds, whole = Passed.read(place / "passed").seconds, left(place / "whole")
    equal = 0
    for n in range(tries):
        for death in moments(draw, seconds, 2):
            lived(command, argv(place / str(n)), death)
        assert lived(command, argv(place / str(n))) == 0
        equal += left(place / str(n)) == whole
    return equal


def test_watches(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the adaptation to what came, by the real graph."""
    from cao.tasks import get_task
    from cao.tasks.splits import part

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own = list({example.group: example.prompt for example in part(get_task("piqa"), "support")}.values())[:60]
    new = [
        {"question": f"{text} {n}", "answer": n % 2, "choices": ["Who", "a bird"] if n % 2 else ["a bird", "Who"]}
        for n, text in enumerate(SUMS[:45])
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*own, *new]))
    plan = whole.argv[whole.argv.index("--policy") + 1]
    assert plan == "fixed"
    strategy = next(word for word in whole.argv if word.startswith("policy_settings.strategy_file=")).partition("=")[2]
    (tmp_path / "c.toml").write_text(
        f'model = "qwen2.5-0.5b"\nmodel_path = "{whole.model}"\npolicy = "fixed"\nmax_attempts = 4\n'
        f'accept = "any"\nuntil = "budget"\npolicy_settings.strategy_file = "{strategy}"\n'
    )

    def argv(out: Path) -> list[str]:
        given = ["--stream", str(tmp_path / "s.jsonl"), "--reference", "piqa", "--window", "32", "--offline"]
        return [*given, "--adapt", "--config", str(tmp_path / "c.toml"), "--out", str(out)]

    def left(out: Path) -> object:
        events = RUN.sub("", (out / "events.jsonl").read_text())
        deployed = json.loads((out / "deployed.json").read_text())
        adapter = deployed["adapter"] and sha256_file(out / deployed["adapter"] / "adapter_model.safetensors")
        return events, deployed["tasks"], adapter

    tries = many(1, 20)
    equal = survived(watch.main, argv, left, tmp_path, draw, tries)
    figure(f"watches killed twice in a row: {equal} of {tries} equal")
    assert equal == tries


def test_consolidations(tiny_model_folder: Path, tmp_path: Path, draw: random.Random, many: Many, figure: Tell) -> None:
    tries = many(1, 20)
    equal = survived(
        consolidate.main,
        lambda out: consolidation(tiny_model_folder, out),
        lambda out: content(out / FOLDER),
        tmp_path,
        draw,
        tries,
    )
    figure(f"consolidations killed twice in a row: {equal} of {tries} equal")
    assert equal == tries


def test_trainings_of_the_policy(
    roomy_model_folder: Path, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    def left(out: Path) -> object:
        [folder] = out.glob("policy-*")
        weights = {path.parent.name: sha256_file(path) for path in folder.glob("policy-*/*.safetensors")}
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        said = sorted((line["iteration"], line["situation"], line["number"], line["raw"]) for line in lines)
        return weights, said

    tries = many(1, 20)
    equal = survived(train, lambda out: training(roomy_model_folder, out), left, tmp_path, draw, tries)
    figure(f"trainings of the policy killed twice in a row: {equal} of {tries} equal")
    assert equal == tries


def test_tables(tiny_model_folder: Path, tmp_path: Path, draw: random.Random, many: Many, figure: Tell) -> None:
    """Of Table 2: the adapters that it makes, the answers that it keeps, and the page."""
    import shutil

    assert lived(consolidate.main, consolidation(tiny_model_folder, tmp_path / "made")) == 0

    def argv(out: Path) -> list[str]:
        if not out.exists():
            shutil.copytree(tmp_path / "made", out)
        given = ["--table", "2", "--consolidation", str(out / FOLDER)]
        given += ["--model", MODEL, "--set", f"model_path={tiny_model_folder}"]
        given += ["--methods", "base,nearest,no_meta_train,cao_stages_1_2", "--tasks", "openbookqa,social_iqa"]
        given += ["--out", str(out / "report"), "--work", str(out / "work")]
        return [*given, "--offline", "--limit", "8", "--reward", "48", "--seeds", "0,1", "--rules", "paper"]

    def left(out: Path) -> object:
        result = json.loads((out / "report" / "table2-paper-settings.json").read_text())
        items = {path.name: sha256_file(path) for path in (out / "work").rglob("*.jsonl")}
        cells = {name: row["cells"] for name, row in result["rows"].items()}
        assert all(len(made) == 2 for made in cells.values()), "nothing was measured"
        return cells, items

    tries = many(1, 20)
    equal = survived(tables.main, argv, left, tmp_path, draw, tries)
    figure(f"tables killed twice in a row: {equal} of {tries} equal")
    assert equal == tries
