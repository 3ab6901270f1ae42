"""Commands that are printed for a person to type: each works as it stands, from the project's root.

So each names the folder of runs where that is not the usual one, the file where a file was given, and sizes that the
task has questions for.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, JsonValue

from agent.config import OPTIONS, RunConfig
from agent.record.gains import folder_alone
from agent.record.schema import NOT_TRIED, RUNNING, UNFINISHED, Run
from agent.record.wording import flatten, gain, holds, loss_worse, points
from cao.files import is_path

MOST_ATTEMPTS, MOST_QUESTIONS, MOST_MINUTES = 100, 20_000, 100_000
"""What a configuration allows."""
SIZES = {"reward", "test", "max_attempts"}
"""Keys that a time budget cuts."""


def resume_command(run_id: str, out: str | Path) -> str:
    """Return the command that goes on with a run."""
    return _with_out(["python", "-m", "agent.run", "--resume", run_id], out)


def trace_command(verb: str, out: str | Path, *arguments: str) -> str:
    """Return a command about runs: the verb, the runs and what else it takes."""
    return _with_out(["python", "-m", "agent.trace", verb, *arguments], out)


def start_command(out: str | Path) -> str:
    """Return the command of a first run."""
    return _with_out(["python", "-m", "agent.run", "--task", "gsm8k"], out)


def _with_out(words: list[str], out: str | Path) -> str:
    usual = Path(out) == Path(RunConfig.model_fields["out"].default)
    return shlex.join(words if usual else [*words, "--out", str(out)])


def reproduce_command(run: Run) -> str:
    """Return the command that does a run again."""
    return run_command_line(run.config or {"task": run.task or "NAME"})


def run_command_line(config: Mapping[str, JsonValue]) -> str:
    """Return the command that starts a run with this configuration; what is left at its default is left out.

    Args:
        config: the run's full configuration, nested tables as mappings; keys of other versions are left out.
    """
    defaults = flatten(RunConfig(task="-").model_dump(mode="json"))
    words = ["python", "-m", "agent.run"]
    for key, value in flatten(config).items():
        if value is None or not _has(RunConfig, key.split(".")) or value == defaults.get(key):
            continue
        if key == "offline":
            words.append("--offline")
        elif key in OPTIONS:
            words += [f"--{key.replace('_', '-')}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        else:
            words += ["--set", f"{key}={_toml(value)}"]
    return shlex.join(words)


def _has(settings: type[BaseModel], keys: Sequence[str]) -> bool:
    """Return whether settings have a key, or a table with it, also where the table is absent by default."""
    field = settings.model_fields.get(keys[0])
    if field is None or len(keys) == 1:
        return field is not None
    kinds = (field.annotation, *get_args(field.annotation))
    return any(_has(kind, keys[1:]) for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _toml(value: JsonValue) -> str:
    """Return a value as TOML has it: as JSON does, but for characters beyond 16 bits and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def next_step(run: Run, out: Path) -> tuple[str, str]:
    """Return what to do next: a sentence, and the command that does it.

    Args:
        run: the run.
        out: the folder of runs that it lies in.
    """
    if run.status == UNFINISHED:
        return "Go on where it stopped; the result is that of an undisturbed run.", resume_command(run.run_id, out)
    if run.status == RUNNING:
        shown = trace_command("show", out, run.run_id)
        return "Wait for the process that works on it; this shows how far it has come.", shown
    if run.status == "improved":
        return _after_improvement(run, out)
    if run.missing:
        return "Give a file in which some questions have their answers.", _again(run, out, task="FILE")
    if run.reason:
        return "Adapt all the same, if the task is worth it.", _again(run, out, when_no_drift="go_on")
    minutes, measured = run.config.get("minutes"), any(trial.reward for trial in run.trials)
    hurried = not run.trials or any(trial.reason.startswith(NOT_TRIED) for trial in run.trials)
    if hurried and not measured and isinstance(minutes, int | float):
        longer = min(MOST_MINUTES, 2 * minutes)
        return "The time had no room for an attempt; give it more.", _again(run, out, minutes=longer)
    if run.trials and not measured:
        if run.policy == "fixed":
            return "None of the file's strategies could be measured; correct them by their reasons.", _again(run, out)
        other = "local" if run.policy == "random" else "random"
        return "No proposal could be measured; let another policy propose.", _again(run, out, policy=other)
    seen, asked, more = run.smallest_detectable, run.splits.get("reward"), _more(run, "reward")
    if asked and more and seen and seen.accuracy:
        least = points(seen.accuracy).lstrip("+")
        many = "four times as many halve it" if more == 4 * asked else f"the task has {more}"
        sentence = f"With {asked} reward questions only accuracy changes from {least} show; {many}."
        return sentence, _again(run, out, reward=more)
    attempts = min(MOST_ATTEMPTS, 2 * max(1, len(run.trials)))
    if attempts > len(run.trials):
        return "Give the policy more attempts.", _again(run, out, max_attempts=attempts)
    return "Let the policy draw other proposals.", _another_seed(run, out)


def _after_improvement(run: Run, out: Path) -> tuple[str, str]:
    change, test, more = gain(run), run.test, _more(run, "test")
    again = _again(run, out, test=more) if more else _another_seed(run, out)
    if change is not None and change < 0:
        sentence = "Do not deploy it: what helped on the reward questions did not hold on test."
        return sentence, _another_seed(run, out)
    then = "measure on more questions" if more else "see whether another seed finds it too"
    if loss_worse(test):
        worse = "Do not rely on it: the log-loss on test is worse"
        if run.config.get("accept") == "any":
            return f"{worse}; the default rule of acceptance guards against that.", _again(run, out, accept="either")
        return f"{worse}; {then}.", again
    if not holds(test.p_value if test else None):
        lower = test is not None and holds(test.loss_p_value)
        if change == 0:
            told = "The log-loss gain holds on test, and" if lower else "Nothing is established on test:"
            return f"{told} the accuracy did not change there; {then}.", again
        subject = "The log-loss gain holds on test, but the" if lower else "The"
        return f"{subject} accuracy gain could be chance; {then}.", again
    if not folder_alone(run):
        return "The gain holds on test; it takes more than an adapter, and this hands all of it over.", _export(
            run, out
        )
    told = "The gain holds on test; the adapter is an ordinary PEFT folder."
    settings = run.config.get("profile")
    as_usual = not (isinstance(settings, dict) and any(value is not None for value in settings.values()))
    own = is_path(str(run.config.get("task") or ""))  # all questions of a file would be those of the reward part, too
    return told, _score(run, out) if as_usual and not own else _export(run, out)


def _more(run: Run, part: str) -> int | None:
    """Return up to four times a part's size, or None where the task has no more questions for it."""
    asked, most = run.splits.get(part) or 0, run.available.get(part, 0)
    size = min(4 * asked, most, MOST_QUESTIONS)
    return size if size > asked else None


def _another_seed(run: Run, out: Path) -> str:
    return _again(run, out, seed=((run.seed or 0) + 1) % 2**31)


def _again(run: Run, out: Path, **changes: JsonValue) -> str:
    config = run.config or {"task": run.task or "NAME"}
    if SIZES & set(changes):
        config = {**config, "minutes": None}  # a time budget would cut them again
    elif "minutes" in changes:
        config = {key: value for key, value in config.items() if key not in SIZES}  # what the shorter time had cut
    return run_command_line({**config, **changes, "out": str(out)})


def _export(run: Run, out: Path) -> str:
    """Return the command that writes what was adopted as one folder, which is served and loaded as it is."""
    words = ["python", "-m", "agent.export", run.run_id, "--to", f"adopted-{run.run_id}"]
    return _with_out([*words, *(["--offline"] if run.config.get("offline") else [])], out)


def _score(run: Run, out: Path) -> str:
    """Return the command that measures the adopted adapter on the run's task."""
    config = run.config
    words = ["python", "-m", "eval.score", "--task", str(config.get("task") or run.task or "NAME")]
    words += ["--adapter", str(out / run.run_id / "adapter")]
    for key, usual in (("model", "smollm2-135m"), ("device", "cpu"), ("model_path", None), ("protocol", "auto")):
        if config.get(key) not in (None, usual):
            words += [f"--{key.replace('_', '-')}", str(config[key])]
    return shlex.join([*words, *(["--offline"] if config.get("offline") else [])])
