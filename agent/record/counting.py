"""How far a measurement is, as one count of one model's answers, whatever the blocks and adapters it is made of."""

from cao.progress import Progress

LABELS = ("score", "generate")
"""What an evaluation calls its progress where it counts questions; other labels are notes."""

SUBJECTS = {
    "base": "the deployed model",
    "generated": "the generated adapter",
    "aligned": "the aligned adapter",
    "test-default": "the deployed model",
    "test-step-": "the model of step ",
    "test-made-": "the model made anew of strategy ",
}
"""Name of a measurement, or how it begins where a number ends it → whose answers they are."""


def subject(name: str) -> str:
    """Return whose answers a measurement holds, in words."""
    stem = name.rstrip("0123456789")
    return SUBJECTS[stem] + name.removeprefix(stem) if stem in SUBJECTS else name.replace("-", " ")


def counting(progress: Progress, name: str, part: str, of: int, before: int, total: int) -> Progress:
    """Return a listener to one block of a measurement that tells how far the whole of it is, and of which model.

    Args:
        progress: called with the count of the whole measurement.
        name: of the measurement.
        part: of the task.
        of: adapters that answer each question.
        before: answers that there are already.
        total: all answers of the measurement.
    """
    label = f"{subject(name)}, {part} questions"
    label += f" by each of {of} adapters" if of > 1 else ""
    asked, last = before, (0, 0)

    def tell(what: str, done: int, among: int) -> None:
        nonlocal asked, last
        if what not in LABELS:
            progress(f"{label}: {what}", done, among)
            return
        if done <= last[0] or among != last[1]:  # routed questions: the next adapter counts its own
            asked += last[0]
        last = (done, among)
        progress(label, asked + done, total)

    return tell
