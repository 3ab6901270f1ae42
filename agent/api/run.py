"""``adapt``: a run of the graph on a program's own questions and prompts, and the model that it adopted."""

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from typing_extensions import Unpack

from agent import session
from agent.api.given import Questions, as_task
from agent.api.options import AdaptOptions, PathLike, plain
from agent.api.progress import Progress, telling
from agent.config import RunConfig
from agent.handover.model import Model
from agent.handover.opening import deployed_or_adopted
from agent.loop.request import check_remote, understand
from agent.loop.state import Workbench
from agent.record.schema import RunRecord
from cao.command_line import quiet_libraries
from cao.errors import InputError
from cao.tasks import PRACTICE, TASKS

UNANSWERED = "answer="
"""What ``map`` says where answers are not to be read."""


@dataclass(frozen=True)
class AdaptedRun:
    """A finished run.

    Attributes:
        record: what its run.json holds.
        folder: its folder.
    """

    record: RunRecord
    folder: Path
    _bench: Workbench = field(repr=False)

    @property
    def report(self) -> Path:
        """The report for people, one page that needs nothing else."""
        return self.folder / "report.html"

    @cached_property
    def model(self) -> Model:
        """The model that the run adopted; the deployed model where it adopted none."""
        bench = self._bench
        return deployed_or_adopted(self.record, self.folder, bench.lm, bench.encoder, bench.carried)


def adapt(
    questions: Questions | None = None,
    *,
    prompts: Questions | None = None,
    progress: Progress | None = None,
    config: PathLike | None = None,
    resume: str | None = None,
    **options: Unpack[AdaptOptions],
) -> AdaptedRun:
    """Adapt the language model to a task, and say whether it helped, as ``cao run`` does.

    Args:
        questions: a task's name, a file as ``--task`` takes it, or a list: texts, or mappings with ``question``,
            ``choices`` and ``answer``. A list is kept as a file beside the runs.
        prompts: what the tools are given: in place of a share of the questions, or alone, where there are no answers.
            The same as ``questions``; answers among them are not read.
        progress: called with each step.
        config: a configuration file.
        resume: id of an interrupted run to go on with.
        options: any key of a run's configuration, by its name; see ``agent.config.RunConfig``.

    Returns:
        The finished run, whether it improved the model or not.

    Raises:
        InputError: the data or an option cannot be used; the command's exit status 2.
        UnavailableError: a model, a data set or a key is not at hand; the command's exit status 3.
    """
    began = time.monotonic()
    quiet_libraries(offline=options.get("offline", False))
    with telling(progress) as view:
        asked = understand(
            _keys(questions, prompts, options, resume),
            file=None if config is None else Path(config),
            assignments=[],
            resume=resume,
        )
        if asked.stored:
            session.refuse_other_graph(asked.stored)
        check_remote(asked.config)
        for line in asked.told:
            view.say(line)
        record, bench = session.run_and_keep(asked, view=view, began=began)
    return AdaptedRun(record, Path(os.path.abspath(asked.config.out)) / record.run_id, bench)


def _keys(
    questions: Questions | None, prompts: Questions | None, options: AdaptOptions, resume: str | None
) -> dict[str, object]:
    """Return the configuration keys that were given, as a configuration file would state them."""
    keys: dict[str, object] = {key: plain(value) for key, value in options.items()}
    if "task" in keys:
        raise InputError("task: give it as questions, or as prompts where there are no answers")
    if isinstance(keys.get("reference"), str):
        keys["reference"] = [keys["reference"]]
    out = Path(str(keys.get("out", RunConfig.model_fields["out"].default)))
    told = str(keys.get("map", ""))
    if questions is not None:
        keys["task"] = as_task(questions, "questions", out, told)
        keys |= {} if prompts is None else {"prompts": as_task(prompts, "prompts", out, UNANSWERED)}
    elif prompts is not None:
        others = [part for part in told.split(",") if part.partition("=")[0].strip() != "answer"]
        keys["map"] = unanswered = ",".join([*filter(None, others), UNANSWERED])
        keys["task"] = as_task(prompts, "prompts", out, unanswered)
        if keys["task"] in TASKS | PRACTICE:
            raise InputError(f"prompts: {keys['task']} has answers; give it as questions, or prompts beside questions")
    elif resume is None and "task" not in keys:
        raise InputError("nothing to adapt to; give questions, or prompts where there are no answers")
    return keys
