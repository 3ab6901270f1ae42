"""How numbers, strategies and outcomes are put into words, for the terminal and the report alike."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from agent.record.measurements import GENERATED, PartScore, TestPart
from agent.record.schema import RUNNING, UNFINISHED, Run
from cao.drift import DriftReport
from cao.encodings import visible
from cao.strategy import strategy_text
from cao.types import StrategyFields, Trial

START_NAMES = {
    "base": "the deployed model",
    "generated": "the generated adapter",
    "aligned": "the aligned adapter",
}
"""What the loop may start from."""

SIGNIFICANT = 0.05
"""Level at which a change on test counts as established."""


def model_name(model: str) -> str:
    """Return what to call a model: a known name or a hub id as it is, of a folder or a file its own name."""
    return Path(model).name if Path(model).is_absolute() else model


def one_line(text: str, length: int) -> str:
    """Return ``text`` on one line, cut to ``length`` characters, with hidden characters made visible."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= length else line[: length - 1] + "…"


def count(n: float, what: str) -> str:
    """Return a number of things, one or several."""
    return f"{n if isinstance(n, int) else f'{n:g}'} {what}{'' if n == 1 else 's'}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share of one as percent."""
    return "—" if share is None else f"{100 * share:.{digits}f} %"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a change with its sign; a real minus, and no ``-0``."""
    if value is None:
        return "—"
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def points(share: float | None) -> str:
    """Return a change of a share in percentage points."""
    return "—" if share is None else f"{signed(100 * share, 1)} points"


def number(value: float | None, digits: int = 4) -> str:
    """Return a plain number."""
    return "—" if value is None else f"{value:.{digits}f}".replace("-", "−")


def p_text(p_value: float | None) -> str:
    """Return a p-value as it is written in a sentence."""
    if p_value is None:
        return "p unknown"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def bare_p(p_value: float | None) -> str:
    """Return a p-value as it is written in a column: no letter, no sign of equality."""
    return "—" if p_value is None else p_text(p_value).removeprefix("p ").removeprefix("= ")


def duration(seconds: float | None) -> str:
    """Return a length of time."""
    if seconds is None:
        return "—"
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def interval(ci95: tuple[float, float] | None) -> str:
    """Return a 95 % interval of a share."""
    return "—" if ci95 is None else f"{100 * ci95[0]:.1f} – {100 * ci95[1]:.1f} %"


def policy_text(run: Run) -> str:
    """Return who proposed, and with which training."""
    untrained = ", untrained" if run.policy == "local" else ""
    trained = f", trained ({run.policy_adapter[:12]})" if run.policy_adapter else untrained
    return f"{run.policy} policy{trained}" if run.policy else ""


def compute_text(run: Run) -> str:
    """Return what the run computed in and on, and why; empty where the run does not say."""
    compute = run.compute
    if compute is None:
        return ""
    threads = f"{count(compute.threads, 'thread')} on " if compute.threads else ""
    why = f" ({compute.reason})" if compute.reason else ""
    chosen = "chosen automatically" if compute.asked == "auto" else "asked for"
    switched = "".join(f"; {name}={value}" for name, value in compute.switched_off.items())
    text = f"{compute.dtype}, {chosen}{why}; {threads}{compute.processor or 'an unknown processor'}{switched}"
    return one_line(text, 400)


def proposal(strategy: StrategyFields | None, raw: str | None, length: int = 120) -> str:
    """Return what a policy proposed: its strategy, or the quoted text that was none."""
    return visible(strategy_text(strategy)) if strategy else f"“{one_line(raw or '', length)}”"


def outcome(trial: Trial) -> str:
    """Return what became of an attempt, in a word or two."""
    if trial.accepted:
        return "accepted"
    if trial.reward:
        return "dropped" if trial.dropped_after else "not better"
    return "not applied" if trial.strategy else "no strategy"


def drift_sentence(drift: DriftReport | None) -> str:
    """Return the drift report in one sentence."""
    if drift is None or not drift.sentence:
        return "Drift was not measured."
    return f"{drift.sentence[:1].upper()}{drift.sentence[1:]}."


def compared_sentence(run: Run) -> str:
    """Return what the prompts were compared with and who said so; empty where the run does not say."""
    if run.drift is None or not run.drift.current:
        return ""
    names = one_line(", ".join(run.drift.current), 400)
    if not run.config.get("reference"):
        why = "the run was not told what the deployed model is for (--reference), so the verdict steers nothing"
        return f"Compared with every registered task ({names}): {why}."
    on = run.drift.kind == "none" and (run.reason is None or run.config.get("when_no_drift") == "go_on")
    went_on = " It went on all the same, as it was told to." if on else ""
    return f"Compared with what the deployed model is for: {names}.{went_on}"


def nothing_measured(run: Run) -> str:
    """Return why nothing was measured on the reward part, as a sentence."""
    if run.reason:
        return f"Nothing was measured: {one_line(run.reason, 400)}."
    return "The start has not been measured yet." if unended(run) else "The start was not measured."


def nothing_tried(run: Run) -> str:
    """Return why there is no attempt, as a sentence."""
    if run.reason:
        return "No attempt was made."
    return "No attempt was made yet." if unended(run) else "No attempt was made: the time had no room for one."


def unended(run: Run) -> bool:
    """Return whether a run has no outcome yet."""
    return run.status in (UNFINISHED, RUNNING)


def headline(run: Run) -> str:
    """Return the outcome in a few words."""
    if run.status == UNFINISHED:
        return "Not finished"
    if run.status == RUNNING:
        return "At work"
    if run.missing:
        return "Not judged"
    if run.reason:
        return "No drift"
    if run.status != "improved":
        return "No improvement"
    change, test = gain(run), run.test
    if change is not None and change < 0:
        return "Improved on reward, worse on test"
    if loss_worse(test):
        return "Improved on reward, log-loss worse on test"
    better = test and (holds(test.p_value) or (holds(test.loss_p_value) and (test.loss_change or 0.0) < 0))
    return "Improved" if better else "Improved on reward, not established on test"


def loss_worse(test: TestPart | None) -> bool:
    """Return whether the log-loss on test is established to be worse."""
    return test is not None and test.loss_p_value >= 1 - SIGNIFICANT


def gain(run: Run) -> float | None:
    """Return the change of the accuracy on test, or None where test was not read."""
    return run.test.adapted.accuracy - run.test.baseline.accuracy if run.test else None


def verdict(run: Run, change: tuple[float, float, float] | None = None) -> str:
    """Return the outcome in one sentence, with its interval and p-value on test.

    Args:
        run: the run.
        change: paired change of the accuracy on test with its 95 % interval, where the items are there.
    """
    tries = count(len(run.trials), "attempt")
    if run.status == UNFINISHED:
        return f"The run stopped after {tries}; the last step seen was {run.last_node or 'none'}."
    if run.status == RUNNING:
        return f"The run is at work: {tries} so far; the last step seen is {run.last_node or 'none'}."
    test = run.test
    if run.status != "improved":
        base = _as_it_was(test) if test else ""
        if run.reason:
            reason = one_line(run.reason, 400)
            return f"{reason[:1].upper()}{reason[1:]}. Nothing was tried; the deployed model is left as it was{base}."
        made = [START_NAMES[name] for name in GENERATED if name in run.reward.starts()]
        if not made and not run.trials:
            return f"{nothing_tried(run)[:-1]}; the deployed model is left as it was{base}."
        return f"{_nothing_beat(run, made)}; it is left as it was{base}."
    what = adopted_text(run)
    after = f" after {tries}" if run.trials else ""
    if test is None:
        return f"{what}{after}; the test questions were not read."
    within = f", 95 % interval {signed(100 * change[1], 1)} to {signed(100 * change[2], 1)}" if change else ""
    of = f" on {test.adapted.n} test questions" if test.adapted.n else " on test"
    loss = ""
    if test.loss_change is not None:
        loss = f", the log-loss from {number(test.baseline.loss)} to {number(test.adapted.loss)} "
        loss += f"({signed(test.loss_change)}; {p_text(test.loss_p_value)})"
    return (
        f"{what}{after}. Accuracy{of} went from {percent(test.baseline.accuracy)} to "
        f"{percent(test.adapted.accuracy)} ({points(gain(run))}{within}; exact McNemar {p_text(test.p_value)}){loss}."
    )


def _nothing_beat(run: Run, made: list[str]) -> str:
    """Return which measured ones did not beat the deployed model: of the adapters ``made``, and of the attempts."""
    measured = sum(trial.reward is not None for trial in run.trials)
    tries, others = count(measured, "attempt"), count(len(run.trials) - measured, "attempt")
    named = [*made, *(["the one attempt" if measured == 1 else f"any of {tries}"] if measured else [])]
    if not named:
        return f"None of {others} could be measured against the deployed model"
    beat = f"Neither {' nor '.join(named)} beat"
    if len(named) == 1:
        one = made[0] if made else "the one attempt"
        beat = f"{one.capitalize()} did not beat" if made or measured == 1 else f"None of {tries} beat"
    aside = f"; {others} could not be measured" if measured < len(run.trials) else ""
    return f"{beat} the deployed model on the reward questions{aside}"


def _as_it_was(test: TestPart) -> str:
    """Return what a model that was left as it was reaches on test, by its own best answer rule besides."""
    best = f"{percent(test.baseline.accuracy)} ({interval(test.baseline.ci95)})"
    if test.default is None or not test.steps:
        return f", whose test accuracy is {best}"
    plain = f"{percent(test.default.accuracy)} ({interval(test.default.ci95)})"
    return f", whose test accuracy is {plain}; the run's folder answers by its own best answer rule, which has {best}"


def guess_text(side: PartScore) -> str:
    """Return the log-loss of guessing, empty where there are no choices or an older file does not say."""
    return number(side.uniform_loss) if side.uniform_loss else ""


def at_chance_text(run: Run) -> str:
    """Return which models know no more of the test questions than guessing does, in a sentence; empty for none."""
    if run.test is None:
        return ""
    sides = {"the deployed model": run.test.baseline}
    sides |= {"the adapted one": run.test.adapted} if run.status == "improved" else {}
    named = [name for name, side in sides.items() if side.at_chance]
    if not named:
        return ""
    base, what = run.test.baseline, f"On test {' and '.join(named)} {'is' if len(named) == 1 else 'are'}"
    if not base.uniform_loss:  # written answers, of which many may name no choice
        return f"{what} no better than guessing, which has accuracy {percent(base.chance)}."
    return f"{what} at chance: guessing has accuracy {percent(base.chance)} and log-loss {number(base.uniform_loss)}."


def adopted_text(run: Run) -> str:
    """Return what was adopted, as the beginning of a sentence."""
    start = START_NAMES[run.reward.start] if run.reward.start in GENERATED else ""
    strategies = run.adopted.accepted if run.adopted else ()
    if not strategies and start:
        return f"{start.capitalize()} was adopted{', no proposal beat it' if run.trials else ''}"
    what = " and on it ".join(visible(strategy_text(strategy)) for strategy in strategies) or "a strategy"
    return f"{what}{f' on {start}' if start else ''} {'were' if len(strategies) > 1 else 'was'} adopted"


def holds(p_value: float | None) -> bool:
    """Return whether a change on test is established."""
    return p_value is not None and p_value <= SIGNIFICANT


def flatten(value: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Return nested mappings as one, keys joined by dots."""
    flat: dict[str, JsonValue] = {}
    for key, entry in value.items():
        flat |= flatten(entry, f"{prefix}{key}.") if isinstance(entry, dict) else {f"{prefix}{key}": entry}
    return flat
