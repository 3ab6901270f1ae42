"""How each row's model is made, by the run's own code: its nodes for the stages, its whole graph for all three.

A model is made for the reward part and for the test part apart, as a run does: a transductive strategy acts on the
unlabelled questions that are about to be answered. Nothing else of the test part is read here.

Source: CAO-LLM §2.2 to §2.4; Tables 2, 5 and 6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from agent import session
from agent.api.progress import CallbackView
from agent.graph import build_graph
from agent.loop import nodes
from agent.loop.answers import rules_of
from agent.loop.applying import Part
from agent.loop.loading import trained_hashes
from agent.loop.request import RunHeader
from agent.loop.run_folder import checkpointer, locked, state_at
from agent.loop.start import first_state
from agent.loop.state import State, Workbench
from agent.record.measurements import GeneratedName
from agent.train.policy.situations import PREPARATION
from cao.errors import InputError, NotApplicableError, UnavailableError
from cao.strategies import FAMILIES
from cao.strategies.calibrate import Calibrate
from cao.strategy import strategy_text
from cao.types import AdaptedModel, AdapterRef, AnswerRule
from eval.baselines.baseline import Spent
from eval.baselines.descent import Read
from eval.paper.cells.desk import Desk
from eval.paper.cells.meter import LAST, Meter
from eval.paper.making import folder_of, make
from eval.paper.rows import STAGE_1, STAGES_1_2, WHOLE, Row

CODE = 4
"""Raised where a cell would come out otherwise because of this module or ``kept``: kept ones are of no use then."""

NOT_KEPT = Spent(tokens=None, seconds=None)
"""What trained parts took, and what generating and aligning with them does."""


@dataclass(frozen=True)
class Candidate:
    """A row's model on a task.

    Attributes:
        reward: as it answers the reward part.
        rules: the answer rules that it may choose from there.
        test: makes it as it answers the test part.
        note: what was adopted, in words.
        adapter: hash of its adapter, empty where it has none or several.
        spent: before the task is known, and on it; nobody keeps what making a start and applying a strategy take.
        fitted: whether the rule itself is what is fitted on the reward part: the one of the lowest loss there.
    """

    reward: AdaptedModel
    rules: tuple[AnswerRule, ...]
    test: Callable[[], AdaptedModel]
    note: str = ""
    adapter: str = ""
    spent: tuple[Spent, Spent] = (NOT_KEPT, NOT_KEPT)
    fitted: bool = False


def candidate(desk: Desk, row: Row, bench: Workbench) -> Candidate:
    """Return a row's model on a task.

    Args:
        desk: models and sources.
        row: which one.
        bench: of the task and the seed; its folder is this cell's own.

    Raises:
        InputError: the task or the settings cannot be used.
        UnavailableError: something needed is not at hand; the message has the command that provides it.
        NotApplicableError: the row's strategy has nothing to act on here.
    """
    if row.kind == "baseline":
        return _baseline(desk, row, bench)
    if (row.family or row.name in (STAGE_1, STAGES_1_2)) and bench.trained.generator is None:
        command = f"python -m agent.consolidate --model {desk.shared.options.model} --install"
        raise UnavailableError(f"no generator was trained for {desk.lm.profile.name}; {command}")
    if bench.trained.saw_task:
        leave_out = f"--set 'leave_out=[\"{bench.task.name}\"]'"
        command = f"python -m agent.consolidate --model {desk.shared.options.model} {leave_out}"
        raise UnavailableError(f"every generator at hand was trained on {bench.task.name}; {command}")
    if row.name in (STAGE_1, STAGES_1_2):
        return made_by_stages(bench, "generated" if row.name == STAGE_1 else "aligned")
    if row.name in WHOLE:
        return _whole_run(bench)
    return _family(bench, row)


def _fixed(
    bench: Workbench, reference: AdapterRef | None, spent: tuple[Spent, Spent] | None = None, note: str = ""
) -> Candidate:
    """Return a model that is the same for both parts: the base model with an adapter, or without."""
    model = AdaptedModel(members=(reference,))
    sha256 = reference.sha256 if reference else ""
    return Candidate(model, rules_of(bench), lambda: model, note, sha256, spent or (NOT_KEPT, NOT_KEPT))


def _baseline(desk: Desk, row: Row, bench: Workbench) -> Candidate:
    if row.name == "base":
        return _fixed(bench, None, (Spent(), Spent()))
    options, task, seed = desk.shared.options, bench.task.name, bench.config.seed
    ground = desk.ground(task)
    budget, progress = desk.budget(task), desk.progress
    made = make(desk.workshop, row.name, task, seed, rules=options.rules, budget=budget, progress=progress)
    spent = (made.choosing + made.preparing, made.adapting)
    if not made.adapter:
        return _fixed(bench, None, spent)
    path, lm = folder_of(ground, made), desk.lm
    return _fixed(bench, AdapterRef(path=str(path), sha256=made.adapter, base_sha256=lm.sha256, rank=made.rank), spent)


def made_by_stages(bench: Workbench, name: GeneratedName) -> Candidate:
    """Return what stage 1 makes, or stages 1 and 2."""
    state = first_state(bench)
    for node in (nodes.generate, nodes.align) if name == "aligned" else (nodes.generate,):
        state = cast(State, {**state, **node(state, bench)})
    return _fixed(bench, _made(state, bench, name), note=f"variant {bench.trained.variant}")


def _made(state: State, bench: Workbench, name: GeneratedName) -> AdapterRef:
    """Return the adapter that a stage made; raises UnavailableError, with the reason, where it made none."""
    reference = bench.adapter(state["adapters"][name])
    if reference is None:
        raise UnavailableError(state["adapters"]["reason"] or f"no {name} adapter")
    return reference


def _whole_run(bench: Workbench) -> Candidate:
    """Return what a run adopts; it reads the test part at its end, and what it adopts stands before."""
    folder = bench.folder
    header = RunHeader(
        run_id=folder.name,
        created=session.now(),
        config=bench.config.model_dump(mode="json"),
        fingerprint=bench.config.fingerprint(),
        graph_sha256="",
        model_sha256=bench.lm.sha256,
        pretrained=trained_hashes(bench),
    )
    with locked(folder, alone=True):
        header.write(folder)
        with Read.by(bench.lm) as read:
            meter = Meter(read)
            record = session.drive(bench, folder, header, CallbackView(meter.follow))
        with checkpointer(folder) as saver:
            graph = build_graph().compile(checkpointer=saver)
            state = state_at(graph.get_state(session.thread_of(header.run_id)), folder)
    model = bench.adapted(state["best"])
    note = f"start {state['start']}; {_words(state)} after {len(record.trials)} attempts"
    first = model.members[0].sha256 if len(model.members) == 1 and model.members[0] else ""
    spent = (NOT_KEPT, Spent(tokens=meter.tokens, seconds=round(record.seconds - record.timing_s.get(LAST, 0.0), 1)))
    return Candidate(model, (model.answer_rule,), lambda: model, note, first, spent)


def _words(state: State) -> str:
    accepted = [trial.strategy for trial in state["trials"] if trial.accepted and trial.strategy]
    return ", ".join(map(strategy_text, accepted)) or "no strategy"


def _family(bench: Workbench, row: Row) -> Candidate:
    """Return what stage 1 makes with one family's strategy on top, whatever the reward part says of either.

    The numbers are the paper's. Calibrate has none there: it is the rule of its grid with the lowest log-loss. In a row
    TTL may train something else than all of LoRA.
    """
    state = first_state(bench)
    for node in PREPARATION:
        state = cast(State, {**state, **node(state, bench)})
    start = AdaptedModel(members=(_made(state, bench, "generated"),))
    rules, family = rules_of(bench), FAMILIES[row.family]
    packed = bench.pack(start)
    state = cast(State, {**state, "start": "generated", "started": packed, "best": packed})
    if family is Calibrate:
        if bench.protocol != "likelihood":
            raise NotApplicableError("answers are written here: there are no choices whose likelihoods compare")
        priors = {rule.prior for rule in rules}
        able = tuple(point.rule for point in Calibrate.grid() if point.rule.prior in priors)
        return Candidate(start, able, lambda: start, fitted=True)
    strategy = family.papers_numbers()
    if strategy is None:
        raise InputError(f"the paper has no numbers for {family.__name__}")
    strategy = row.ttl.added(strategy)
    proposed = cast(State, {**state, "proposal": strategy.canonical(), "proposal_seconds": 0.0})
    reward = _applied(proposed, bench, "reward")
    test = (lambda: _applied(proposed, bench, "test")) if strategy.transductive else (lambda: reward)
    return Candidate(reward, rules, test, strategy_text(strategy.canonical()))


def _applied(state: State, bench: Workbench, part: Part) -> AdaptedModel:
    update = nodes.apply(state, bench, part)
    if "candidate" not in update:
        raise NotApplicableError(update["trials"][-1].reason)
    return bench.adapted(update["candidate"])
