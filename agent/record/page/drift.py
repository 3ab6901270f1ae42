"""The report's drift picture: prompts among the known tasks, and each task's distance beside its null distribution."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from agent.record.answering import small_file
from agent.record.schema import Run
from agent.record.wording import number, p_text
from cao.drift import DriftPicture, TaskPicture
from cao.errors import InputError
from cao.files import write_json

PICTURE_FILE = "drift.json"
WIDTH, HEIGHT, MARGIN = 560.0, 360.0, 24.0
"""Size and margin of the plane, in SVG units."""
LABEL_HEIGHT, LABEL_WIDTH = 17.0, 7.4
"""Room that a name takes: its height, and the width of a character."""
HUES = 8
MOST_TASKS, MOST_PROMPTS, MOST_BINS, FARTHEST = 64, 1000, 200, 1e6
"""What is drawn at most; a file that holds more is none of this project's."""

Place = tuple[float, float]


@dataclass(frozen=True)
class Cloud:
    """A known task in the plane: its prompts, and where its name stands."""

    name: str
    hue: int
    nearest: bool
    dots: list[Place]
    label: Place


@dataclass(frozen=True)
class Plane:
    """The prompts among the known tasks; each prompt with its place and the beginning of its text."""

    clouds: list[Cloud]
    prompts: list[tuple[Place, str]]


@dataclass(frozen=True)
class Row:
    """How far a known task lies.

    Attributes:
        name: the task's.
        hue: of its colour.
        nearest: whether no task is nearer.
        share: where the distance stands on the common axis, in [0, 100].
        area: the null distribution as an SVG path on 100 × 20 units; empty where it is not known.
        text: distance or effect, and p-value.
        title: the effect size.
    """

    name: str
    hue: int
    nearest: bool
    share: float
    area: str
    text: str
    title: str


def keep_picture(folder: Path, picture: DriftPicture) -> None:
    """Write what is drawn of the drift test into a run's folder."""
    write_json(folder / PICTURE_FILE, picture.model_dump(mode="json"))


def read_picture(folder: Path) -> DriftPicture | None:
    """Return what the run kept to be drawn, None where there is nothing that this code wrote."""
    try:
        picture = DriftPicture.model_validate_json(small_file(folder / PICTURE_FILE))
    except (InputError, ValidationError):
        return None
    tasks = list(picture.tasks.values())
    places = [at for task in tasks for at in (*task.points, task.centre)] + [one.at for one in picture.prompts]
    numbers = [n for at in places for n in at] + [n for task in tasks for n in (task.observed, task.low, task.high)]
    small = len(tasks) <= MOST_TASKS and len(picture.prompts) <= MOST_PROMPTS
    small = small and all(len(task.null) <= MOST_BINS and min(task.null, default=0) >= 0 for task in tasks)
    return picture if small and tasks and all(abs(n) <= FARTHEST for n in numbers) else None


def plane(picture: DriftPicture, run: Run) -> Plane:
    """Return the plane in SVG units, both axes on one scale.

    Args:
        picture: what the run kept.
        run: the run, which names the nearest task.
    """
    places = [one.at for one in picture.prompts]
    places += [at for task in picture.tasks.values() for at in (*task.points, task.centre)]
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*places, strict=True))
    scale = min((WIDTH - 2 * MARGIN) / max(right - left, 1e-9), (HEIGHT - 2 * MARGIN) / max(high - low, 1e-9))

    def placed(at: Place) -> Place:
        x, y = at[0] - (left + right) / 2, at[1] - (low + high) / 2
        return round(WIDTH / 2 + scale * x, 1), round(HEIGHT / 2 - scale * y, 1)

    labels = _labels({name: placed(task.centre) for name, task in picture.tasks.items()})
    nearest = run.drift.nearest_task if run.drift else None
    return Plane(
        [
            Cloud(name, i % HUES, name == nearest, [placed(at) for at in task.points], labels[name])
            for i, (name, task) in enumerate(picture.tasks.items())
        ],
        [(placed(one.at), one.text) for one in picture.prompts],
    )


def _labels(centres: dict[str, Place]) -> dict[str, Place]:
    """Return where names stand: at their tasks' means, moved down where they would cover another."""
    stand: dict[str, Place] = {}
    for name, (x, y) in sorted(centres.items(), key=lambda entry: entry[1][1]):
        half = LABEL_WIDTH * len(name) / 2
        x = min(max(x, half + 2), WIDTH - half - 2)
        for other, (at, height) in sorted(stand.items(), key=lambda entry: entry[1][1]):
            near = abs(at - x) < half + LABEL_WIDTH * len(other) / 2 and abs(height - y) < LABEL_HEIGHT
            y = height + LABEL_HEIGHT if near else y
        stand[name] = (x, round(y, 1))
    return stand


def rows(picture: DriftPicture | None, run: Run) -> list[Row]:
    """Return how far each known task lies, the nearest first: by distance where the null is known, else by effect."""
    if run.drift is None:
        return []
    nearest = run.drift.nearest_task
    order = sorted(run.drift.known.items(), key=lambda entry: (entry[1].effect, entry[0] != nearest))
    drawn = picture.tasks if picture and all(name in picture.tasks for name, _ in order) else {}
    hues = {name: i % HUES for i, name in enumerate(drawn)}
    far = max((max(task.observed, task.high) for task in drawn.values()), default=0.0)
    found = []
    for name, evidence in order:
        task = drawn.get(name)
        share = task.observed / far if task and far > 0 else evidence.effect
        shown = number(task.observed if task else share, 3)
        p_value = f" ({p_text(evidence.p_value)})" if evidence.p_value is not None else ""
        area = _area(task, far) if task else ""
        share = round(100 * min(max(share, 0.0), 1.0), 1)
        effect = f"effect size {number(evidence.effect, 3)} of 1"
        found.append(Row(name, hues.get(name, HUES - 1), name == nearest, share, area, shown + p_value, effect))
    return found


def _area(task: TaskPicture, far: float) -> str:
    most, bins = max(task.null, default=0), len(task.null)
    if not most or far <= 0 or task.high <= task.low:
        return ""
    edges = [100 * (task.low + (task.high - task.low) * i / bins) / far for i in range(bins + 1)]
    steps = "".join(
        f"V{20 - 18 * count / most:.1f}H{edge:.2f}" for count, edge in zip(task.null, edges[1:], strict=True)
    )
    return f"M{edges[0]:.2f} 20{steps}V20Z"
