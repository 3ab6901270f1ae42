"""What is served under which name, and which model is current; changed in one step, between two requests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.handover.model import Model
from agent.record.runs import find_run
from agent.server.engine import Worn
from agent.server.errors import unknown_model
from agent.server.settings import AUTO, BASE, Place, ServeOptions
from cao.model.soft_prompt.either import load_carried
from cao.types import ID_PATTERN


@dataclass(frozen=True)
class Served:
    """A model that is served.

    Attributes:
        name: by which answers say who answered.
        model: that answers here, None behind an upstream server.
        worn: the one adapter that texts are written under; None where they take more than one adapter.
        there: the name that an upstream server knows it by.
        run_id: of the run that adopted it, empty for the base model.
    """

    name: str
    model: Model | None = None
    worn: Worn | None = None
    there: str = ""
    run_id: str = ""


def served(name: str, model: Model) -> Served:
    """Return a model as it is served here.

    Args:
        name: by which answers say who answered.
        model: an opened one; its adapter is read once, and kept.
    """
    worn: Worn | None = None
    if len(model.adapted.members) == 1 and model.adapted.latent is None:
        (member,) = model.adapted.members
        worn = Worn() if member is None else Worn(member.sha256, load_carried(Path(member.path), model.lm.sha256))
    return Served(name, model, worn, run_id=model.handed.run_id)


@dataclass
class Roster:
    """All models that are served.

    Attributes:
        base: the base model, or the deployed one with the adapter that it carries.
        routes: name → model, as the command was given them.
        by_drift: task → model, as adaptations on alarms made them.
        current: what ``auto`` stands for.
        tasks: that are expected at present.
    """

    base: Served
    routes: dict[str, Served] = field(default_factory=dict)
    by_drift: dict[str, Served] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    current: Served = field(init=False)

    def __post_init__(self) -> None:
        self.current = self.base

    @property
    def names(self) -> list[str]:
        """What a request may call for."""
        return [name for name, _ in self.every]

    @property
    def every(self) -> list[tuple[str, Served]]:
        """What a request may call for, with who answers; other threads may change the roster meanwhile."""
        drifted = [(name, model) for name, model in self.by_drift.copy().items() if name not in self.routes]
        return [(BASE, self.base), (AUTO, self.current), *self.routes.items(), *drifted]

    def resolve(self, name: str) -> Served:
        """Return the model of a name, for the whole of one request.

        Raises:
            ApiError: nobody is called so.
        """
        if name in (AUTO, BASE):
            return self.current if name == AUTO else self.base
        found = self.routes.get(name) or self.by_drift.get(name)
        if found is None:
            raise unknown_model(name, self.names)
        return found

    def expect(self, tasks: Sequence[str]) -> bool:
        """Make the model of the expected tasks current; return whether it is another one than before."""
        self.tasks = tuple(tasks)
        before, alone = self.current, self.tasks[0] if len(self.tasks) == 1 else ""
        self.current = self.by_drift.get(alone) or self.routes.get(alone) or self.base
        return self.current is not before

    def adopt(self, task: str, model: Served) -> bool:
        """Serve a model wherever prompts come from a task; return whether it is current from now on."""
        self.by_drift[task] = model
        return self.expect(self.tasks)

    def dismiss(self, task: str) -> bool:
        """Serve a task's model no more; return whether another one is current from now on."""
        self.by_drift.pop(task, None)
        return self.expect(self.tasks)


def places(options: ServeOptions) -> list[Place]:
    """Return where the models lie that the command names.

    Raises:
        InputError: there is no such run.
    """
    made = []
    for one in options.adopted:
        name, _, where = one.partition("=")
        folder = find_run(Path(options.runs), where) if _is_run(where) else Path(where)
        made.append(Place(name=name, folder=folder))
    return made


def _is_run(where: str) -> bool:
    return ID_PATTERN.fullmatch(where) is not None and not Path(where).is_dir()
