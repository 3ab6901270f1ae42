"""Hand-made run folders, as the graph writes them, for the tests of what reads them."""

import json
import math
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

TTL = {"family": "TTL", "ttl_steps": 25, "learning_rate": 1e-05, "batch_size": 4, "shuffle_data": True}
LATENT = {"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}
HOSTILE = (
    "<script>alert('x')</script>{{ 7*7 }}</svg><img src=x onerror=alert(1)> [bold red]no[/bold red] "
    "\x1b[31mred\x1b[0m \u202eright to left\u2066 zero\u200bwidth \x00 \u2028 &amp; <!-- ]]> \"quoted\" 'single'"
)
KNOWN = {
    "arc_easy": 0.412, "arc_challenge": 0.401, "hellaswag": 0.533, "boolq": 0.578, "piqa": 0.467, "winogrande": 0.489,
}  # fmt: skip


def reward(score: float, loss: float, n: int = 96) -> dict[str, Any]:
    half = 1.96 * math.sqrt(score * (1 - score) / n)
    return {
        "score": score, "ci95": [score - half, score + half], "margin": -0.012, "loss": loss,
        "gold_nll_per_char": 1.103, "n": n,
    }  # fmt: skip


def side(score: float, loss: float, n: int = 200) -> dict[str, Any]:
    whole = reward(score, loss, n)
    return {"accuracy": whole.pop("score"), **whole}


def comparison(accuracy: float, loss: float, p: float, accepted: bool) -> dict[str, Any]:
    return {
        "accuracy_change": accuracy, "loss_change": loss, "loss_p_value": p, "mcnemar_p_value": 0.45,
        "accepted": accepted, "rule": "either",
    }  # fmt: skip


def tried() -> list[dict[str, Any]]:
    """One text that is no strategy, one strategy that does not help, one that does."""
    return [
        {
            "attempt": 1, "strategy": None, "raw": '{"family": "TTL", "ttl_steps": 5000, "learning_rate": 0.1}',
            "accepted": False, "reason": "rejected: TTL: ttl_steps: Input should be less than or equal to 100",
            "reward": None, "comparison": None, "dropped_after": None, "dropped_members": None, "seconds": 2.11,
        },
        {
            "attempt": 2, "strategy": LATENT, "raw": None, "accepted": False,
            "reason": "not accepted: accuracy -1.0 points, log-loss +0.0102 (one-sided p=0.862)",
            "reward": reward(0.4479, 1.3704), "comparison": comparison(-0.0104, 0.0102, 0.862, False),
            "dropped_after": None, "dropped_members": None, "seconds": 31.7,
        },
        {
            "attempt": 3, "strategy": TTL, "raw": None, "accepted": True,
            "reason": "accepted: accuracy +3.1 points, log-loss -0.0214 (one-sided p=0.012). 25 steps on 32 prompts",
            "reward": reward(0.4896, 1.3388), "comparison": comparison(0.0312, -0.0214, 0.012, True),
            "dropped_after": None, "dropped_members": None, "seconds": 58.2,
        },
    ]  # fmt: skip


def record(run_id: str) -> dict[str, Any]:
    """The run.json of an improved run."""
    trials = tried()
    return {
        "schema_version": 1, "run_id": run_id, "status": "improved", "reason": None, "task": "gsm8k",
        "model": "smollm2-135m", "model_sha256": "ef" * 32, "policy": "local", "policy_adapter": None,
        "describer": "cached", "request_forms": {"describer": None, "policy": None}, "seed": 0,
        "protocol": "likelihood",
        "splits": {"support": 32, "reward": 96, "test": 200}, "available": {"reward": 264, "test": 396},
        "drift": {
            "score": 0.401, "p_value": 0.002, "drifted": True, "nearest_task": "arc_challenge",
            "kind": "domain_transfer",
            "sentence": "drifted to something new: no known task explains the prompts (p = 0.002, level 0.05)",
            "caveats": ["32 prompts: small drifts would go unseen"], "n": 32,
            "known": {name: {"distance": far, "effect": far, "p_value": 0.002} for name, far in KNOWN.items()},
            "alpha": 0.05,
        },
        "context": "Short word problems from everyday life that take several steps of arithmetic to solve.",
        "context_note": "",
        "adapters": {
            "generated": None, "aligned": None, "variant": None, "saw_task": None, "caveats": [],
            "reason": "no generator for smollm2-135m; run: python -m agent.consolidate",
        },
        "trials": trials, "attempts": 3,
        "reward": {
            "baseline": reward(0.4583, 1.3602), "generated": None, "aligned": None, "start": "base",
            "best": reward(0.4896, 1.3388), "comparisons": {"generated": None, "aligned": None},
            "dropped_after": {"generated": None, "aligned": None},
        },
        "evaluations": {
            "asked": 288, "answered": 288, "saved": 0, "dropped_early": 0, "reused": 0, "checked": 0, "agreed": 0,
            "member_answers": 288, "member_answers_saved": 0,
        },
        "smallest_detectable": {"loss": 0.0191, "accuracy": 0.081},
        "adopted": {
            "start": "base", "strategy": TTL, "adapter": {"path": "adapter", "sha256": "ab" * 32}, "together": None,
            "note": "25 steps",
        },
        "test": {
            "baseline": side(0.455, 1.3712), "adapted": side(0.485, 1.3455), "chance": None, "p_value": 0.263,
            "loss_change": -0.0257, "loss_p_value": 0.0006,
        },
        "timing_s": {
            "describe": 0.02, "detect": 6.1, "generate": 0.01, "align": 0.01, "choose": 20.9, "decide": 11.9,
            "apply": 34.8, "evaluate": 41.8, "conclude": 61.3,
        },
        "seconds": 176.84, "overhead_share": 0.0031, "peak_memory_mb": 1834.2,
        "created": "2026-11-23T20:41:07Z", "finished": "2026-11-23T20:44:09Z", "dtype": "bfloat16",
        "compute": {"dtype": "bfloat16", "device": "cpu", "asked": "auto"},
        "versions": {"cao-llm": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "config": {
            "task": "gsm8k", "model": "smollm2-135m", "model_path": None, "policy": "local", "describer": "cached",
            "support": 32, "reward": 96, "test": 200, "max_attempts": 4, "accept": "either", "seed": 0,
            "out": "runs", "device": "cpu", "offline": False,
            "policy_settings": {"temperature": 1.0, "top_k": 50, "base_url": None},
        },
    }  # fmt: skip


def older(run_id: str) -> dict[str, Any]:
    """The same, written by a version whose run.json had no ``schema_version`` and a key that is no more."""
    run = {**record(run_id), "tokens_scored": 181_204}
    del run["schema_version"]
    return run


def started_run(run_id: str) -> dict[str, Any]:
    """A run whose aligned adapter beat the deployed model, and whose last trial beat that."""
    run = record(run_id)
    base = run["reward"]["baseline"]
    run["reward"] |= {
        "baseline": reward(0.4167, 1.5702), "generated": reward(0.4479, 1.4102), "aligned": base, "start": "aligned",
        "comparisons": {
            "generated": comparison(0.0312, -0.16, 0.031, True), "aligned": comparison(0.0416, -0.21, 0.0004, True),
        },
    }  # fmt: skip
    run["adapters"] = {
        "generated": {"path": f"adapters/{'ab' * 32}", "sha256": "ab" * 32},
        "aligned": {"path": f"adapters/{'cd' * 32}", "sha256": "cd" * 32},
        "reason": "", "variant": "without-gsm8k", "saw_task": False, "caveats": ["2 of 32 prompts were blank"],
    }  # fmt: skip
    run["adopted"]["start"] = "aligned"
    return run


def dropped_start(run_id: str) -> dict[str, Any]:
    """The same, but the generated adapter was dropped early: on these questions all models are often right."""
    run = started_run(run_id)
    run["reward"] |= {"generated": reward(0.75, 0.9, 24), "dropped_after": {"generated": 24, "aligned": None}}
    run["reward"]["comparisons"]["generated"] = comparison(-0.0833, 0.1402, 0.999, False)
    run["evaluations"] = {"asked": 576, "answered": 504, "saved": 72, "dropped_early": 1}
    return run


def start_event(run: dict[str, Any]) -> dict[str, Any]:
    """The data of the event that measured the start of ``started_run``."""
    found = run["reward"]
    dropped = found.get("dropped_after", {})
    starts = {
        name: {
            "reward": found[name], "comparison": found["comparisons"][name], "dropped_after": dropped.get(name),
        }
        for name in ("generated", "aligned")
    }  # fmt: skip
    return {"baseline": found["baseline"], "start": found["start"], "starts": starts, "adapters": run["adapters"]}


def events(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The trace of ``record``, node by node."""
    trials = run["trials"]
    steps = [
        ("describe", 0.02, {"context": {"text": run["context"], "source": "cached", "note": ""}}),
        ("detect", 6.1, {"drift": run["drift"]}),
        ("generate", 0.01, {"adapters": run["adapters"]}),
        ("align", 0.01, {"adapters": run["adapters"]}),
        ("choose", 20.9, {"baseline": run["reward"]["baseline"]}),
        ("decide", 2.11, {"trial": trials[0]}),
        ("decide", 4.9, {"proposal": trials[1]["strategy"]}),
        ("apply", 0.02, {"proposal": trials[1]["strategy"], "applied": "5 SLOT steps a question"}),
        ("evaluate", 26.8, {"trial": trials[1]}),
        ("decide", 4.89, {"proposal": trials[2]["strategy"]}),
        ("apply", 34.78, {"applied": "25 steps on 32 prompts"}),
        ("evaluate", 15.0, {"trial": trials[2], "accepted": True}),
        ("conclude", 61.3, {"status": run["status"], "test": run["test"]}),
    ]  # fmt: skip
    lines: list[dict[str, Any]] = []
    for node, seconds, data in steps:
        for event, extra in (("start", {}), ("end", {"seconds": seconds})):
            time = f"2026-11-23T20:{41 + len(lines) // 6:02d}:{7 + len(lines) % 6:02d}Z"
            lines.append(
                {
                    "seq": len(lines),
                    "time": time,
                    "node": node,
                    "event": event,
                    **extra,
                    "data": data if extra else {},
                }
            )
    return lines


def write_run(
    out: Path, run_id: str, run: dict[str, Any] | None = None, lines: list[dict[str, Any]] | None = None
) -> Path:
    """Write a finished run's folder."""
    run = record(run_id) if run is None else run
    path = out / run_id
    path.mkdir(parents=True)
    (path / "config.json").write_text(
        json.dumps({"run_id": run_id, "created": run.get("created"), "config": run.get("config", {})})
    )
    (path / "run.json").write_text(json.dumps(run))
    write_trace(path, events(record(run_id)) if lines is None else lines)
    return path


def write_trace(path: Path, lines: list[dict[str, Any]], cut: str = "") -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (path / "trace.jsonl").write_text(text + cut, encoding="utf-8")


def write_unfinished(out: Path, run_id: str, keep: int, cut: str = "") -> Path:
    """Write the folder of a run that was killed after ``keep`` trace lines."""
    whole = record(run_id)
    path = out / run_id
    path.mkdir(parents=True)
    (path / "config.json").write_text(
        json.dumps({"run_id": run_id, "created": whole["created"], "config": whole["config"]})
    )
    write_trace(path, events(whole)[:keep], cut)
    return path


def write_picture(path: Path) -> Path:
    """Write what is drawn of the drift: three prompts, and every known task with its null distribution."""
    points = [{"at": [3.0 + i / 10, 1.0], "text": f"the {i + 1}nd prompt"} for i in range(3)]
    tasks = {
        name: {
            "points": [[-1.0, i / 9], [-1.2, i / 8]], "centre": [-1.1, i / 9], "observed": far, "null": [1, 5, 9, 2],
            "low": 0.03, "high": 0.06,
        }
        for i, (name, far) in enumerate(KNOWN.items())
    }  # fmt: skip
    (path / "drift.json").write_text(json.dumps({"prompts": points, "tasks": tasks}))
    return path


def write_items(path: Path, name: str, losses: list[float], correct: list[bool]) -> None:
    (path / "items").mkdir(exist_ok=True)
    rows = [
        {"id": f"q{i}", "loss": loss, "correct": right}
        for i, (loss, right) in enumerate(zip(losses, correct, strict=True))
    ]
    (path / "items" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_all_items(path: Path, seed: int = 0) -> None:
    """Write plausible items for every measured step of ``record``."""
    draw = random.Random(seed)
    for part, n, names in (
        ("reward", 96, ("base", "attempt-2", "attempt-3")),
        ("test", 200, ("test-baseline", "test-adapted")),
    ):
        losses = [draw.gauss(1.36 if part == "reward" else 1.371, 0.6) for _ in range(n)]
        right = [draw.random() < 0.46 for _ in range(n)]
        for name in names:
            shift = {"attempt-2": 0.0102, "attempt-3": -0.0214, "test-adapted": -0.0257}.get(name, 0.0)
            moved = [loss + shift + draw.gauss(0, 0.09 if shift else 0) for loss in losses]
            flipped = [not r if shift and draw.random() < 0.06 else r for r in right]
            write_items(path, name, moved, flipped)


def hostile(run_id: str) -> dict[str, Any]:
    """A run whose every free text is an attack."""
    run = deepcopy(record(run_id))
    for key in ("task", "model", "policy", "describer", "context"):
        run[key] = HOSTILE
    run["trials"][0]["raw"] = HOSTILE + "\ud800" + "A" * 100_000
    run["trials"][1]["reason"] = HOSTILE
    run["trials"][2]["strategy"] = {"family": HOSTILE, HOSTILE: HOSTILE}
    run["adopted"]["strategy"] = run["trials"][2]["strategy"]
    run["drift"] |= {
        "nearest_task": HOSTILE,
        "caveats": [HOSTILE],
        "sentence": HOSTILE,
        "known": {HOSTILE: {"distance": 0.4, "effect": 0.4, "p_value": 0.5}, "b": {"distance": 0.0, "effect": 0.0}},
    }
    run["versions"] = {HOSTILE: HOSTILE}
    run["config"] = {HOSTILE: HOSTILE, "task": HOSTILE}
    run["timing_s"] = {HOSTILE: 3.0, "evaluate": 2.0}
    run["adapters"] = {
        "generated": None, "aligned": None, "saw_task": None, "reason": HOSTILE, "variant": HOSTILE,
        "caveats": [HOSTILE],
    }  # fmt: skip
    return run
