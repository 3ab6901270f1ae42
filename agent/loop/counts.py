"""How many reward questions measuring took, counted from step to step."""

from agent.loop.answers import Measurement
from agent.record.measurements import Counts, Evaluations


def counted(before: Evaluations | None, *measurements: Measurement) -> Evaluations:
    """Return the counts of reward questions with more measurements added.

    Args:
        before: the counts so far.
        measurements: of the reward part, finished.
    """
    nothing: Evaluations = {
        "asked": 0,
        "dropped_early": 0,
        "measured": {},
        "reused": 0,
        "checked": 0,
        "agreed": 0,
        "member_asked": 0,
        "member_measured": {},
    }
    counts: Evaluations = {**nothing, **(before or nothing)}
    counts["measured"], counts["member_measured"] = dict(counts["measured"]), dict(counts["member_measured"])
    for one in measurements:
        counts["asked"] += one.total
        counts["member_asked"] += one.total * one.of
        counts["dropped_early"] += bool(one.dropped)
        counts["reused"] += one.reused
        known = counts["member_measured"]
        if one.key not in counts["measured"]:  # another measurement: what is known of its adapters is not asked again
            counts["reused"] += sum(min(known.get(key, 0), answered) for key, answered in one.answers.items())
        known |= {key: max(known.get(key, 0), answered) for key, answered in one.answers.items()}
        counts["measured"][one.key] = max(counts["measured"].get(one.key, 0), len(one.items))
        counts["checked"] += one.agrees is not None
        counts["agreed"] += bool(one.agrees)
    return counts


def summary(evaluations: Evaluations) -> Counts:
    """Return what run.json says: the counts, with the questions that models answered and those that were saved.

    The same is counted in answers of single adapters: of m that answer a question together, each counts.
    """
    asked, answered = evaluations["asked"], sum(evaluations["measured"].values())
    by_members = sum(evaluations["member_measured"].values())
    return Counts(
        asked=asked,
        answered=answered,
        saved=asked - answered,
        dropped_early=evaluations["dropped_early"],
        reused=evaluations["reused"],
        checked=evaluations["checked"],
        agreed=evaluations["agreed"],
        member_answers=by_members,
        member_answers_saved=evaluations["member_asked"] - by_members,
    )
