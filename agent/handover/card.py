"""The model card of an exported run."""

import json
import re
from pathlib import Path

from agent.handover.settings import CAO_FILE
from agent.record.schema import RunRecord
from agent.record.wording import compared_sentence, drift_sentence, interval, model_name, number, percent
from cao.encodings import visible
from cao.model.profiles import NOT_THE_HUBS, known
from cao.strategy import restore_strategy, strategy_text
from cao.types import AnswerRule, Reward


def hub_id(run: RunRecord) -> str:
    """Return where anybody gets a run's base model, empty for a model of the user's own."""
    profile = known(run.model)
    return "" if profile is None or run.config.get("model_path") else profile.published


def card(run: RunRecord, what: str, folders: tuple[str, ...], *, soft: bool = False) -> str:
    """Return the model card in Markdown.

    Args:
        run: what is exported.
        what: ``adopted``, ``generated`` or ``aligned``.
        folders: of its adapters, relative to the card; ``.`` is the card's own.
        soft: whether a soft prompt is among them.
    """
    source = hub_id(run)
    profile = known(run.model) if source else None
    licence = profile.licence if profile else "other"
    tags = ["prompt-tuning" if soft else "lora"] if folders else []
    head = {"base_model": source, "library_name": "peft", "license": licence, "tags": tags}
    front = [f"{key}: {json.dumps(value)}" for key, value in head.items() if value]
    accepted = what == "adopted" and run.adopted is not None
    told_apart = f". {NOT_THE_HUBS}" if profile and profile.dequantised else ""
    facts = {
        "Base model": f"{model_name(run.model)}{_carried(run)}, sha256 of its weights {run.model_sha256}{told_apart}",
        "Task": f"{run.task}{', ' + run.data.format if run.data else ''}",
        "What it is": _note(run) if accepted else f"the {what} adapter",
        "Strategy": _strategies(run) if accepted else "none",
        "Drift": f"{drift_sentence(run.drift)} {compared_sentence(run)}".strip(),
        "Licence": f"{licence}; that of the base model. The data's own licence is for you to state.",
        "Made by": f"cao-llm {run.versions.get('cao-llm', '')}, run {run.run_id}, {run.finished}, seed {run.seed}",
    }
    told = [f"- {name}: {as_text(fact)}" for name, fact in facts.items()]
    if not accepted:
        told.append(f"- Accepted: {_accepted(run, what)}")
    title = f"# {as_text(run.task)} on {as_text(model_name(run.model))}"
    return "\n".join(["---", *front, "---", "", title, "", *told, "", *_scores(run, what), *_use(folders)])


def as_text(value: str) -> str:
    """Return what Markdown shows as this text: no link, picture, table, code or HTML comes of it."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", visible(value))


def _carried(run: RunRecord) -> str:
    """Return what an adapter that the deployed model carries means to who loads this one."""
    start = run.config.get("start_adapter")
    if not start:
        return ""
    name = Path(str(start)).name
    return (
        f" with the adapter {name} that it carries; where that is more than added matrices (DoRA, trained biases or "
        "heads) it was merged into the weights first, and so must you before you load this one"
    )


def _strategies(run: RunRecord) -> str:
    strategies = run.adopted.accepted if run.adopted else ()
    return "; ".join(strategy_text(strategy) for strategy in strategies) or "none beyond the start"


def _note(run: RunRecord) -> str:
    return (run.adopted and run.adopted.note) or "the adopted model"


def _accepted(run: RunRecord, what: str) -> str:
    """Return whether the run accepted an adapter that is handed over alone, by the default answer rule."""
    made, adopted = getattr(run.adapters, what), run.adopted
    if made and adopted and adopted.adapter and adopted.adapter.sha256 == made.sha256:
        return "the run adopted it as `--what adopted` hands it over, with its answer rule and its test scores."
    return "no; nothing says that it is better than the base model."


def _rewards(run: RunRecord, what: str) -> dict[str, Reward | None]:
    """Return whose rewards stand in the table; an adapter alone answers by the default rule, and so does the other."""
    if what == "adopted":
        strategies = map(restore_strategy, run.adopted.accepted if run.adopted else ())
        remade = any(strategy.transductive for strategy in strategies)
        this = "reward, what was made for its questions; this was made for the test's" if remade else "reward, this"
        return {"reward, deployed model": run.reward.baseline, this: run.reward.best}
    default = next((each for each in run.reward.rules if each.rule == AnswerRule()), None)
    if default and (reward := getattr(default, what)):
        return {"reward, deployed model, default answer rule": default.base, "reward, this, by the same": reward}
    dropped = ", as far as it was measured" if run.reward.dropped_after.get(what) else ""
    return {"reward, deployed model": run.reward.baseline, f"reward, this{dropped}": getattr(run.reward, what)}


def _scores(run: RunRecord, what: str) -> list[str]:
    """Return the rewards and the test scores with their intervals, as a table; only what was adopted was tested."""
    rewards = ((name, reward) for name, reward in _rewards(run, what).items() if reward)
    sides = {name: (reward.score, reward.ci95, reward.n, reward.loss) for name, reward in rewards}
    if run.test is not None and what == "adopted" and run.adopted is not None:
        tested = {"test, deployed model": run.test.baseline, "test, this": run.test.adapted}
        sides |= {name: (one.accuracy, one.ci95, one.n, one.loss) for name, one in tested.items()}
    if not sides:
        return ["Nothing was measured: the run had no labels.", ""]
    rows = [
        f"| {name} | {percent(score)} | {interval(ci95)} | {number(loss)} | {n} |"
        for name, (score, ci95, n, loss) in sides.items()
    ]
    base = run.reward.baseline
    if base and base.uniform_loss:
        rows.append(f"| guessing | {percent(base.chance)} | | {number(base.uniform_loss)} | |")
    return ["| part | accuracy | 95 % interval | log-loss | questions |", "|---|---|---|---|---|", *rows, ""]


def _use(folders: tuple[str, ...]) -> list[str]:
    if folders == (".",):
        load = 'model = AutoPeftModelForCausalLM.from_pretrained("DIR")'
        return ["```python", "from peft import AutoPeftModelForCausalLM", "", load, "```", ""]
    rest = f"`{CAO_FILE}` states how its {len(folders)} adapters answer together." if folders else ""
    return [rest or f"There are no weights to load: `{CAO_FILE}` states how the base model's answers are read.", ""]
