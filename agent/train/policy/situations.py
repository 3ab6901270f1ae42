"""Situations: tasks at the point where the loop begins, and what any strategy is worth there.

A situation goes through the run's own nodes up to the measured start, and a strategy's reward is that of the run's own
``apply`` and ``evaluate``. Each reward is a line of ``rewards.jsonl``: an equal strategy on an equal state has
an equal reward, so nothing is measured twice, in this process or in another one.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from agent.config import RunConfig
from agent.loop import nodes
from agent.loop.loading import asked_as
from agent.loop.observations import policy_context
from agent.loop.request import protocol_of
from agent.loop.reward import measure_part
from agent.loop.start import first_state
from agent.loop.state import State, Workbench, dump_state, load_state
from agent.loop.trained import Trained, find_trained, own_adapters
from agent.train.policy.loaded import Loaded
from agent.train.policy.rest_em import Judged
from cao.errors import InputError, NotApplicableError
from cao.files import append_line, canonical_json, opened, sealed, sha256_bytes, whole_lines, write_json
from cao.model.adapters import adapter_sha256
from cao.model.language_model import LanguageModel
from cao.profile_settings import ProfileSettings
from cao.strategies import FAMILIES, Strategy
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import MeasuredPart, Splits, practice, split
from cao.types import Trial
from policies.base import Policy, PolicyContext
from policies.uniform import RandomPolicy
from tools.evaluate.statistics import compare

PREPARATION = (nodes.describe, nodes.detect, nodes.generate, nodes.align, nodes.choose)
"""What a run does before its loop."""

CODE = 7
"""Raised where rewards would come out otherwise: kept ones are of no use then."""

SEEN = "the generator was trained on this task's questions"

REWARDS_DEPEND_ON = (
    *("adapter", "variant", "start_adapter", "describer", "accept", "answer_rules", "serving_price", "max_attempts"),
    *("racing", "racing_error", "seed"),
)
"""Keys of the configuration; a reward is the same whoever proposes. Attempts count, since they share the level."""


class Wanted(NamedTuple):
    """Which situation is wanted.

    Attributes:
        task: its name, or a file of questions.
        seed: chooses the questions.
        practice: draw every question from the train part, as for anything that is trained and shipped.
        bare: begin with the deployed model alone, without an adapter that was made for the task.
    """

    task: str
    seed: int
    practice: bool
    bare: bool = False


class Situation:
    """One task at the beginning of the loop.

    Attributes:
        name: ``TASK-SEED``, with ``practice-`` before it where all questions are from the train part, and ``-bare``
            behind it where no adapter is made.
        practice: whether all questions are from the train part.
        leaks: whether it is practice on what the only generator was trained on: its adapters would look better than on
            any new task, so the loop begins without one, and a strategy that makes some is not rewarded.
        bench: the run's workbench.
        folder: where this situation keeps its state and its rewards; its name has a hash of all that rewards depend on.
    """

    def __init__(self, loaded: Loaded, wanted: Wanted) -> None:
        """Take a task; nothing is computed yet.

        Raises:
            InputError: no such task, or it has too few questions.
        """
        config = loaded.config.model_copy(update={"task": wanted.task, "seed": wanted.seed})
        task = get_task(wanted.task)
        splits = _questions(task, config, for_practice=wanted.practice)
        protocol = protocol_of(config, task, splits)
        asked = asked_as(task, config, protocol, loaded.lm)
        trained = _trained(loaded.lm, task, splits, config, for_practice=wanted.practice)
        self.practice = wanted.practice
        self.leaks = wanted.practice and bool(trained.saw_task or trained.saw_questions)
        bare = wanted.bare or self.leaks
        if bare:
            config = config.model_copy(update={"adapter": "none"})
        self.name = f"{'practice-' if wanted.practice else ''}{task.name}-{wanted.seed}{'-bare' if bare else ''}"
        trained = replace(trained, own=own_adapters(loaded.lm, config.pool))
        depends_on = {
            "code": CODE,
            "config": config.model_dump(include=set(REWARDS_DEPEND_ON)),
            **_unusual(loaded, by_template=asked is not task),
            "device": loaded.lm.device,
            "dtype": loaded.lm.dtype,
            "model": loaded.lm.sha256,
            "trained": trained.hashes(),
            "encoder": loaded.encoder.sha256,
            "protocol": protocol,
            **({"pool": sorted(map(adapter_sha256, trained.own))} if trained.own else {}),
            "questions": [example.model_dump(mode="json") for example in (*splits.support, *splits.reward)],
        }
        self.key = sha256_bytes(canonical_json(depends_on).encode())[:12]
        self.folder = loaded.folder / f"{self.name}-{self.key}"
        nobody = cast(Policy, RandomPolicy())
        self._sees_measurements = config.policy_sees_measurements
        self.bench = Workbench(
            config=config.model_copy(update={"policy_sees_measurements": True}),  # the state serves every policy
            folder=self.folder,
            task=replace(asked, has_train=False) if wanted.practice else asked,  # no labelled pair is described
            splits=splits,
            protocol=protocol,
            lm=loaded.lm,
            encoder=loaded.encoder,
            policy=nobody,
            trained=trained,
            states=loaded.states,
            record=lambda *_, **__: None,
            progress=loaded.progress,
            carried=loaded.carried,
        )

    @cached_property
    def state(self) -> State:
        """The state in which the loop begins."""
        return self.prepare()

    def prepare(self) -> State:
        """Return the state in which the loop begins; it is kept on the disk, so that it is computed once."""
        path = self.folder / "state.json"
        if path.exists():
            return _read(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = first_state(self.bench)
        for node in PREPARATION:
            self.bench.progress(f"{self.name}: {node.__name__}", 0, 0)
            state = cast(State, {**state, **node(state, self.bench)})
        write_json(path, sealed(dump_state(state)))
        return state

    @property
    def context(self) -> PolicyContext:
        """What a policy sees at the first attempt."""
        context = policy_context(self.state, self.bench)
        if self.leaks:
            able = tuple(name for name in context.families if not FAMILIES[name].from_states)
            lost = {name: SEEN for name in context.families if name not in able}
            context = context.model_copy(update={"families": able, "unavailable": {**context.unavailable, **lost}})
        return context if self._sees_measurements else context.model_copy(update={"measured": ()})

    def after(self, trials: Sequence[Trial]) -> PolicyContext:
        """Return what a policy sees once these attempts have failed."""
        return self.context.model_copy(update={"history": tuple(trials)})

    def known(self, part: MeasuredPart = "reward") -> dict[str, Judged]:
        """Return the strategies measured so far, by their canonical JSON; other processes measure too.

        Args:
            part: measured on.

        Raises:
            InputError: the file is damaged.
        """
        path, known = self._memory(part), dict[str, Judged]()
        for line in whole_lines(path):
            try:
                entry = json.loads(opened(line))
                if not (self.leaks and FAMILIES[entry["strategy"]["family"]].from_states):
                    known[canonical_json(entry["strategy"])] = Judged.model_validate(entry["judged"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InputError(f"{path}: damaged; delete the folder to have it made again") from None
        return known

    def judge(self, strategy: Strategy, part: MeasuredPart = "reward") -> Judged:
        """Return what a strategy is worth at the first attempt, from memory where it is known.

        Args:
            strategy: a valid one.
            part: ``reward``, as the run's loop judges it, or ``test``, where every question is asked.
        """
        known = self.known(part).get(canonical_json(strategy.canonical()))
        if known is not None:
            return known.model_copy(update={"cached": True})
        if self.leaks and strategy.from_states:
            return Judged(improved=False, reason=SEEN)
        proposed = cast(State, {**self.state, "proposal": strategy.canonical(), "proposal_seconds": 0.0})
        adapters = set(_folders(self.bench.store))
        judged = self._attempt(proposed) if part == "reward" else self._examine(proposed)
        for folder in set(_folders(self.bench.store)) - adapters:  # weights can be made again; gigabytes cannot be kept
            shutil.rmtree(folder)
        entry = sealed({"strategy": strategy.canonical(), "judged": judged.model_dump()})
        append_line(self._memory(part), canonical_json(entry))
        return judged

    def _memory(self, part: MeasuredPart) -> Path:
        if part == "reward":
            return self.folder / "rewards.jsonl"
        asked = canonical_json([example.model_dump(mode="json") for example in self.bench.splits.test])
        return self.folder / f"test-{sha256_bytes(asked.encode())[:12]}.jsonl"

    def _attempt(self, state: State) -> Judged:
        applied = cast(State, {**state, **nodes.apply(state, self.bench)})
        if applied["proposal"] is None:
            return judged_of(applied["trials"][-1])
        trial = nodes.evaluate(applied, self.bench)["trials"][-1]
        if not trial.dropped_members:
            return judged_of(trial)
        return judged_of(trial, len(self.bench.adapted(applied["candidate"]).members))

    def _examine(self, state: State) -> Judged:
        """Return what a strategy changes on the test part, over what the loop starts from."""
        began = time.monotonic()
        applied = nodes.apply(state, self.bench, "test")
        if "candidate" not in applied:
            return judged_of(applied["trials"][-1])
        start, candidate = self.bench.adapted(state["best"]), self.bench.adapted(applied["candidate"])
        try:
            before = measure_part(self.bench, start, "test", "test-start").items
            after = measure_part(self.bench, candidate, "test", "test-candidate").items
        except NotApplicableError as error:
            return Judged(improved=False, reason=f"not measured: {error}", seconds=time.monotonic() - began)
        change = compare(before, after, self.bench.config.accept)
        return Judged(
            improved=change.accepted,
            reason="measured on the test part",
            comparison=change,
            questions=len(after),
            seconds=round(time.monotonic() - began, 3),
        )


def _unusual(loaded: Loaded, *, by_template: bool) -> dict[str, JsonValue]:
    """Return what rewards depend on besides where it is not the default.

    Args:
        loaded: what is loaded.
        by_template: whether questions are asked by the chat template.
    """
    profile = loaded.config.profile
    return {
        **({"profile": profile.model_dump(mode="json")} if profile != ProfileSettings() else {}),
        **({"carried": adapter_sha256(loaded.carried)} if loaded.carried else {}),
        **({"asked": "by the chat template"} if by_template else {}),
    }


def _trained(lm: LanguageModel, task: Task, splits: Splits, config: RunConfig, *, for_practice: bool) -> Trained:
    """Return the trained parts that serve a task; they say what they know of a user's and of practice's questions.

    Train questions may be a source's under another task's name.
    """
    asked = [one.prompt for one in (*splits.support, *splits.reward) if task.reading or for_practice]
    served, folder = (lm.sha256, task.name, config.variant), config.pretrained
    return find_trained(*served, align=config.adapter == "aligned", folder=folder, questions=asked)


def _questions(task: Task, config: RunConfig, *, for_practice: bool) -> Splits:
    if for_practice:
        return practice(task, support=config.support, reward=config.reward, seed=config.seed)
    return split(task, support=config.support, reward=config.reward, test=config.test, seed=config.seed)


def _read(path: Path) -> State:
    try:
        return load_state(json.loads(opened(path.read_bytes())))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: damaged; delete the folder to have it made again") from None


def _folders(store: Path) -> list[Path]:
    return [path for path in store.glob("*") if path.is_dir()] if store.exists() else []


def judged_of(trial: Trial, members: int = 1) -> Judged:
    """Return what an attempt's trial says about its strategy, which has so many adapters."""
    return Judged(
        improved=trial.accepted,
        reason=trial.reason,
        comparison=trial.comparison,
        questions=trial.reward.n if trial.reward else 0,
        members=trial.dropped_members / members if trial.dropped_members else 1.0,
        seconds=round(trial.seconds, 3),
    )
