"""The command: what it prints, and how it ends when something is wrong."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cao.inference.scoring import score_queries
from cao.model.adapters import save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.types import WEIGHTS_FILE, Query
from eval import score

ROOT = Path(__file__).parents[2]
FIXED = ("--offline", "--dtype", "bfloat16")  # as the tiny model is loaded beside
ROWS = [
    {"question": "Which of these can fly?", "choices": ["the bird", "the sun"], "answer": 0},
    {"question": "Why do plants need the sun?", "choices": ["to sleep", "to grow", "to run"], "answer": "B"},
    {"question": "How many apples are left?", "choices": ["7", "12", "5"], "answer": 0},
    {"question": "Can Tom eat 12 apples?", "choices": ["yes", "no"], "answer": 1},
]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "animals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def run(
    questions: Path,
    tiny_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the command sets variables for its libraries

    def call(*arguments: str, task: str = str(questions)) -> tuple[int, str, str]:
        code = score.main(["--task", task, "--model-path", str(tiny_model_folder), *FIXED, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_json_is_one_object_with_the_contracts_keys(run: Any, tiny_lm: LanguageModel, questions: Path) -> None:
    code, out, _ = run("--json")
    record = json.loads(out)
    assert code == 0
    assert (record["n"], record["protocol"], record["split"]) == (4, "likelihood", "all")
    task = get_task(str(questions))
    examples = task.load()
    assert [item["id"] for item in record["items"]] == [example.id for example in examples]
    results = score_queries(tiny_lm, [task.query(example, "text") for example in examples])
    golds = [result.branches[example.answer] for example, result in zip(examples, results, strict=True)]
    for item, result in zip(record["items"], results, strict=True):
        assert item["scores"] == pytest.approx([branch.per_char for branch in result.branches])
        assert item["choice"] == item["scores"].index(max(item["scores"]))
    right = sum(item["choice"] == item["gold"] for item in record["items"])
    assert record["accuracy"] == right / 4
    assert record["ci95"][0] <= record["accuracy"] <= record["ci95"][1]
    nll = -sum(gold.logprob for gold in golds) / sum(gold.chars for gold in golds)
    assert record["gold_nll_per_char"] == pytest.approx(nll)
    assert record["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
    assert record["uniform_loss"] == record["loss"] == pytest.approx(math.log(6) / 2)  # too few for a temperature
    assert record["at_chance"]
    assert record["raw_loss"] != record["loss"]


def test_without_json_a_table_is_printed(run: Any) -> None:
    code, out, _ = run()
    assert code == 0
    assert "accuracy" in out
    assert "animals" in out
    assert "guessing 41.7 %" in out
    shown = " ".join(out.replace("│", " ").split())
    assert "; guessing 41.7 %; at chance)" in shown
    assert "(guessing 0.8959; at chance)" in shown


def test_a_limit_samples_by_the_seed_and_keeps_the_files_order(run: Any) -> None:
    everything = [item["id"] for item in json.loads(run("--json")[1])["items"]]
    drawn = {}
    for seed in range(6):
        ids = [item["id"] for item in json.loads(run("--json", "--limit", "2", "--seed", str(seed))[1])["items"]]
        assert ids == [name for name in everything if name in ids]
        assert len(ids) == 2
        drawn[seed] = tuple(ids)
    assert len(set(drawn.values())) > 1
    again = json.loads(run("--json", "--limit", "2", "--seed", "0")[1])
    assert tuple(item["id"] for item in again["items"]) == drawn[0]
    assert json.loads(run("--json", "--limit", "999")[1])["n"] == 4


def test_generate_writes_and_grades(run: Any) -> None:
    record = json.loads(run("--json", "--protocol", "generate")[1])
    assert record["protocol"] == "generate"
    assert all(item["scores"] == [] for item in record["items"])


def test_an_adapter_changes_the_scores(run: Any, tiny_lm: LanguageModel, tmp_path: Path) -> None:
    weights = tiny_lm.fresh_lora(0)
    for name, tensor in weights.tensors.items():
        if ".lora_B." in name:
            tensor.fill_(0.05)
    reference = save_adapter(tmp_path / "adapters", weights, "tiny")
    with_it = json.loads(run("--json", "--adapter", reference.path)[1])
    assert with_it["adapter"] == reference.sha256
    assert with_it["items"] != json.loads(run("--json")[1])["items"]


def test_a_bad_adapter_is_one_line_and_exit_2(run: Any, tiny_lm: LanguageModel, tmp_path: Path) -> None:
    weights = tiny_lm.fresh_lora(0)
    good = Path(save_adapter(tmp_path / "adapters", weights, "tiny").path)
    weights.tensors[next(iter(weights.tensors))][0, 0] += 1
    other = LanguageModel(tiny_lm.profile, tiny_lm.model, tiny_lm.tokenizer, "f" * 64)
    foreign = Path(save_adapter(tmp_path / "adapters", other.fresh_lora(0), "other").path)
    truncated = Path(save_adapter(tmp_path / "adapters", weights, "tiny").path)
    (truncated / WEIGHTS_FILE).write_bytes((truncated / WEIGHTS_FILE).read_bytes()[:-9])
    for folder in (tmp_path / "missing", good / WEIGHTS_FILE, truncated, foreign):
        code, out, err = run("--json", "--adapter", str(folder))
        assert (code, out) == (2, "")
        assert err.startswith("error: ") or "\nerror: " in err
        assert "Traceback" not in err


def test_an_adapter_that_makes_scores_infinite_is_bad_input(run: Any, tiny_lm: LanguageModel, tmp_path: Path) -> None:
    weights = tiny_lm.fresh_lora(0)
    for tensor in weights.tensors.values():
        tensor.fill_(3e38)
    code, out, err = run("--adapter", save_adapter(tmp_path, weights, "tiny").path)
    assert (code, out) == (2, "")
    assert "not finite" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--protocol", "likelihood"], 2, "generate"),
        (["--model", "gpt-17"], 2, "smollm2-135m"),
        (["--device", "toaster"], 2, "device"),
        (["--set", "rank=3"], 2, "model_path"),
    ],
)
def test_bad_arguments_say_what_to_do(run: Any, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    path = tmp_path / "free.jsonl"
    path.write_text(json.dumps({"question": "How many?", "answer": "many"}) + "\n")
    got, out, err = run(*arguments, task=str(path))
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_an_unknown_task_and_a_missing_model_end_with_their_status(run: Any, tmp_path: Path) -> None:
    assert run(task="arc_eazy")[0] == 2
    assert run("--set", f"model_path={tmp_path}")[0] == 3
    if not torch.cuda.is_available():
        assert run("--device", "cuda")[0] == 3


def test_help_imports_no_torch() -> None:
    script = (
        "import sys; from eval.score import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--adapter" in done.stdout


def plain_choice(lm: LanguageModel, query: Query) -> tuple[int, list[float]]:
    """One full forward pass in float32 for each choice."""
    scores = []
    for branch in query.branches:
        context, whole = (
            lm.encode(query.prefix + branch.lead),
            lm.encode(query.prefix + branch.lead + branch.scored),
        )
        assert whole[: len(context)] == context
        with torch.no_grad():
            logprobs = lm.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        total = sum(float(logprobs[t - 1, whole[t]]) for t in range(len(context), len(whole)))
        scores.append(total / len(branch.scored.strip()))
    return scores.index(max(scores)), scores


@pytest.mark.integration
def test_the_embedded_model_ranks_as_plain_float32_scoring_does() -> None:
    lm = load_language_model(MODELS["smollm2-135m"], offline=True)
    task: Task = get_task("arc_easy")
    queries = [task.query(example, "text") for example in task.load()[:48]]
    fast = [[branch.per_char for branch in result.branches] for result in score_queries(lm, queries)]
    lm.model.float()
    same, worst = 0, 0.0
    for query, scores in zip(queries, fast, strict=True):
        choice, expected = plain_choice(lm, query)
        same += choice == scores.index(max(scores))
        worst = max(worst, *(abs(a - b) for a, b in zip(scores, expected, strict=True)))
    exact = [[branch.per_char for branch in result.branches] for result in score_queries(lm, queries[:4])]
    for query, scores in zip(queries, exact, strict=False):
        assert scores == pytest.approx(plain_choice(lm, query)[1], abs=1e-4)
    assert same >= 0.95 * 48
    assert worst < 0.1
