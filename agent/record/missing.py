"""What a run without labels made, and what it lacked; the terminal and the report share it."""

from agent.record.measurements import GENERATED
from agent.record.schema import Run
from agent.record.wording import START_NAMES, count


def missing_sentences(run: Run) -> list[str]:
    """Return what a run without labels made, and what it lacked; nothing where there were labels."""
    if not run.missing:
        return []
    made = [f"{START_NAMES[name]} ({one.path})" for name in GENERATED if (one := getattr(run.adapters, name, None))]
    told = [f"Made of the prompts, and not judged: {', '.join(made)}." if made else "No adapter was made."]
    if (found := run.unjudged) and found.answer_rule:
        told.append(
            f"Calibrated by the prior of {count(found.prompts, 'prompt')}, the deployed model's answer changes on "
            f"{found.changed}; run.json holds the rule and the prior."
        )
    elif found:
        told.append(f"Not calibrated: {found.reason}.")
    return told + [f"Missing: {what}." for what in run.missing]
