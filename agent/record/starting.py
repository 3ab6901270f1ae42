"""What the loop started from, in words: what was made for the prompts, and what it was measured to be worth."""

from agent.record.schema import Run
from agent.record.wording import START_NAMES, number, one_line, p_text, percent, points, signed


def start_sentence(run: Run) -> str:
    """Return what the loop started from and what else was measured; empty where there was nothing to choose from."""
    starts = run.reward.starts()
    base = starts.pop("base", None)
    if base is None or not starts:
        return ""
    chosen, outcomes = run.reward.start or "base", {}
    for name, reward in starts.items():
        comparison, after = run.reward.comparisons.get(name), run.reward.dropped_after.get(name)
        if after is None:
            loss = f", log-loss {number(base.loss)} → {number(reward.loss)}" if reward.loss is not None else ""
            more = f" ({p_text(comparison.accuracy_p_value)})" if comparison else ""
            lower = f" ({p_text(comparison.loss_p_value)})" if comparison and loss else ""
            outcomes[name] = f"had accuracy {percent(base.score)} → {percent(reward.score)}{more}{loss}{lower}"
        else:  # what it scored on a few questions is not comparable with that on all: changes only
            change = (
                f": accuracy {points(comparison.accuracy_change)}, log-loss {signed(comparison.loss_change)}"
                if comparison
                else ""
            )
            change += " on these" if comparison else ""
            outcomes[name] = f"was dropped after {after}{f' of {base.n}' if base.n else ''} questions{change}"
    others = [f"{START_NAMES[name]} {text}" for name, text in outcomes.items() if name != chosen]
    first = f"Start: {START_NAMES[chosen]}"
    if chosen in outcomes:
        first += f", {outcomes[chosen].removeprefix('had ')}, made {variant_text(run)}without a gradient"
    return f"{first}." + "".join(f" {text[0].upper()}{text[1:]}." for text in others)


def variant_text(run: Run) -> str:
    """Return which trained generator was used, or nothing where the run does not say."""
    adapters = run.adapters
    if adapters is None or not adapters.variant:
        return ""
    seen = f", {adapters.seen}," if adapters.seen else ""
    return f"by generator “{one_line(adapters.variant, 80)}”{seen} "


def caveats(run: Run) -> list[str]:
    """Return what limits the generated adapters, one sentence each."""
    return [one_line(caveat, 400) for caveat in run.adapters.caveats] if run.adapters else []
