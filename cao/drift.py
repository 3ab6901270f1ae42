"""What a drift test says about a window of prompts; small, frozen and JSON-able like ``cao.types``."""

from typing import Literal

from pydantic import Field

from cao.types import Record

DriftKind = Literal["none", "covariate", "domain_transfer", "concept", "insufficient", "not_covered"]


class TaskEvidence(Record):
    """How a window compares with one known task.

    Attributes:
        distance: energy distance between the window and the reference, in the units of the embeddings' distances.
        effect: the unbiased energy coefficient, 0 for equal distributions and at most 1: how far, whatever the
            window's size; 0 where a window of one prompt has no spread to compare with.
        p_energy: p-value of the energy distance alone; None where no test was made.
        p_outliers: p-value of the prompts' remoteness from the task alone; None where no other task is known.
        p_mixture: p-value of the classifier's odds against this task alone; None where no other task is known.
        p_prompts: p-value of these tests together.
        p_signals: p-value of the model's option signals together; None where there are none.
        p_value: p-value of the tests together, from their joint permutations.
    """

    distance: float
    effect: float
    p_energy: float | None = None
    p_outliers: float | None = None
    p_mixture: float | None = None
    p_prompts: float | None = None
    p_signals: float | None = None
    p_value: float | None = None


class Feedback(Record):
    """How often the answers to a window were right, against the answers to the nearest task's reference.

    Attributes:
        task: the known task whose reference is compared with.
        correct: right answers in the window.
        answered: prompts of the window with a known outcome.
        reference_accuracy: share of right answers in the reference, in [0, 1].
        p_value: two-sided exact test of Fisher.
    """

    task: str
    correct: int
    answered: int
    reference_accuracy: float
    p_value: float


class DriftReport(Record):
    """What the detector says about a window of prompts.

    Attributes:
        score: effect size towards the nearest task, 0 (equal distributions) to 1, independent of the window's size;
            0 where fewer than two prompts were left.
        p_value: the largest p-value over the current tasks, so that drift means that all of them are rejected; twice
            the smaller one where feedback is judged too.
        drifted: whether ``p_value`` is at or below ``alpha``.
        nearest_task: the known task with the smallest effect size; None where no prompt was left or most are not
            covered.
        kind: ``none``; ``covariate``: the prompts left the current tasks, but another known task or a mixture of
            known tasks explains them; ``domain_transfer``: every known task is rejected; ``concept``: the prompts did
            not move but the share of right answers did; ``insufficient``; ``not_covered``: most prompts are in a
            script that the encoder was not trained on, so distances mean little and no task is named.
        sentence: the verdict in words.
        caveats: what limits the verdict, in sentences without their full stop.
        known: the evidence against each known task.
        current: the tasks that the window was expected from.
        not_rejected: the known tasks that cannot be told from the window, {k : p_k > alpha}.
        none_of_these: whether no known task, nor a mixture of them, explains the window.
        shares: the mixture of known tasks that comes closest, where every known task is rejected.
        typicality: for each prompt given, how usual it is for the known task that it suits best: a conformal
            p-value, low for an outlier; None for blanks, repeats and what was not drawn.
        duplicate_rate: share of the prompts given that repeat another one.
        order_p: p-value of the likeness of neighbouring prompts, small where the window's order carries information.
        feedback: what the labels say, None without labels.
        smallest_p: the smallest p-value that this window could have got.
        n: prompts that were tested, after removing blanks and repeats.
        drawn_from: how many there were before so many were drawn at random; None where all were tested.
        alpha: the level of the test.
    """

    score: float
    p_value: float
    drifted: bool
    nearest_task: str | None
    kind: DriftKind
    sentence: str = ""
    caveats: tuple[str, ...] = ()
    known: dict[str, TaskEvidence] = Field(default_factory=dict)
    current: tuple[str, ...] = ()
    not_rejected: tuple[str, ...] = ()
    none_of_these: bool = False
    shares: dict[str, float] = Field(default_factory=dict)
    typicality: tuple[float | None, ...] = ()
    duplicate_rate: float = 0.0
    order_p: float | None = None
    feedback: Feedback | None = None
    smallest_p: float | None = None
    n: int = 0
    drawn_from: int | None = None
    alpha: float = 0.05


class PromptPoint(Record):
    """A prompt of the window in the plane, and the beginning of its text."""

    at: tuple[float, float]
    text: str = ""


class TaskPicture(Record):
    """A known task as it is drawn beside a window.

    Attributes:
        points: some of its prompts, in the plane.
        centre: the mean of all of them.
        observed: energy distance between the window and the task, in the units of the embeddings' distances.
        null: how many of the relabelled windows lie how far from the task, in equal bins from ``low`` to ``high``.
        low: the first bin's lower end.
        high: the last bin's upper end.
    """

    points: tuple[tuple[float, float], ...]
    centre: tuple[float, float]
    observed: float
    null: tuple[int, ...]
    low: float
    high: float


class DriftPicture(Record):
    """Prompts and known tasks in two dimensions, and how far a window lies from each, set against its null."""

    prompts: tuple[PromptPoint, ...] = ()
    tasks: dict[str, TaskPicture] = Field(default_factory=dict)
