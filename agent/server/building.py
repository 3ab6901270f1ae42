"""What serves requests, put together: models loaded and opened, the model's thread, the application before it."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from starlette.types import ASGIApp

from agent.handover.model import Model
from agent.handover.opening import open_beside
from agent.handover.settings import CAO_FILE, Handed
from agent.record.reading import read_record, read_run
from agent.record.schema import RunRecord
from agent.server.adaptation.control import Adaptation, Close, Open
from agent.server.adaptation.runs import Runs
from agent.server.app import Answers, make_app
from agent.server.engine import Engine
from agent.server.errors import ApiError
from agent.server.guards import Guard
from agent.server.listening import Listener
from agent.server.local import Local
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served, served
from agent.server.settings import BASE, Place, ServeOptions
from agent.server.upstream.adapters import Adapters
from agent.server.upstream.connection import connection
from agent.server.upstream.forwarding import Forwarder
from agent.server.wire import Feedback
from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.start_adapter import attach_adapter
from cao.progress import timed
from cao.types import AdaptedModel, AdapterRef
from policies.client.address import names_this_machine


@dataclass(frozen=True)
class Site:
    """What serves requests, but for the web.

    Attributes:
        app: answers them.
        roster: what is served.
        stop: ends what works behind it, once no request is under way.
    """

    app: ASGIApp
    roster: Roster
    stop: Callable[[], None]


def make_site(options: ServeOptions, lying: Sequence[Place], key: str, file: Path | None = None) -> Site:
    """Load what is served, and start what works behind the requests.

    Args:
        options: what the command takes.
        lying: where the adopted models lie.
        key: that requests must bear, empty where none is needed.
        file: a configuration file, for the runs that adapt.

    Raises:
        InputError: a folder is damaged, or was made with other weights; a configuration cannot be used.
        UnavailableError: the base model is not at hand.
    """
    if options.upstream:
        return _before(options, lying, key, file)
    with timed("loading the language model"):
        lm = load_model(options)
    carried = attach_adapter(lm, Path(options.start_adapter)) if options.start_adapter else None
    encoder = Encoder(minilm_folder(), options.device)
    roster = Roster(served(BASE, _deployed(lm, encoder, carried, options.start_adapter)))
    roster.routes |= {at.name: served(at.name, open_beside(at.folder, lm, encoder, carried)) for at in lying}
    for at in lying:
        if _adopted_nothing(at.folder):
            sys.stderr.write(f"{at.name}: its run adopted nothing, so it answers as {BASE} does\n")
    metrics = Metrics()
    engine = Engine(lm, batch=options.batch, queue=options.queue)
    metrics.gauge("cao_waiting", "Jobs that have not begun", lambda: engine.waiting)
    metrics.gauge("cao_active", "Texts that are being written", lambda: engine.active)

    def opened(task: str, folder: Path, record: RunRecord) -> Served:
        return engine.within(lambda: served(task, open_beside(folder, lm, encoder, carried)))

    engine.start()
    try:
        adaptation = _adapting(options, file, roster, metrics, opened, lambda model: None)
    except BaseException:
        engine.stop()
        raise
    listener = _listener(roster, adaptation)
    local = Local(engine, roster, listener, metrics, options.max_tokens)

    def stop() -> None:
        if adaptation is not None:
            adaptation.stop()
        engine.stop()

    return Site(site_app(options, local, roster, metrics, key, adaptation, lambda: engine.alive), roster, stop)


def _adopted_nothing(folder: Path) -> bool:
    """Return whether a folder, which was opened, is that of a run which left the deployed model as it was."""
    at = Path(os.path.abspath(folder))
    return not (at / CAO_FILE).is_file() and read_run(at).adopted is None


def _before(options: ServeOptions, lying: Sequence[Place], key: str, file: Path | None) -> Site:
    """Return what stands before another server; no model is loaded here but those of the runs that adapt."""
    metrics, base = Metrics(), str(options.upstream_model)
    to = connection(options)
    adapters = Adapters(to)
    roster = Roster(adapters.base(base))

    def opened(task: str, folder: Path, record: RunRecord) -> Served:
        return adapters.open(base, task, folder, record)

    roster.routes |= {at.name: opened(at.name, at.folder, _run_at(at)) for at in lying}
    adaptation = _adapting(options, file, roster, metrics, opened, adapters.close)
    answers = Forwarder(to, roster, _listener(roster, adaptation), metrics)
    stop = adaptation.stop if adaptation else lambda: None
    return Site(site_app(options, answers, roster, metrics, key, adaptation), roster, stop)


def _run_at(at: Place) -> RunRecord:
    """Return the record of the run that lies somewhere.

    Raises:
        InputError: it is no run that has ended.
    """
    if (at.folder / CAO_FILE).is_file() and not (at.folder / "run.json").is_file():
        raise InputError(
            f"--adopted {at.name}={at.folder}: was exported, and with --upstream runs are taken: give the run's id or "
            "folder, or have that server load the folder itself"
        )
    return read_record(at.folder)


def _adapting(
    options: ServeOptions, file: Path | None, roster: Roster, metrics: Metrics, opened: Open, closed: Close
) -> Adaptation | None:
    """Return what watches and adapts, at work; None where nothing was asked of it."""
    metrics.now_current(roster.current.name)
    if not options.watching:
        return None
    adaptation = Adaptation(options, Runs(options, file), roster, metrics, opened, closed)
    adaptation.start()
    return adaptation


def _listener(roster: Roster, adaptation: Adaptation | None) -> Listener:
    return Listener(roster) if adaptation is None else Listener(roster, adaptation.watching, adaptation.memory)


def site_app(
    options: ServeOptions,
    answers: Answers,
    roster: Roster,
    metrics: Metrics,
    key: str,
    adaptation: Adaptation | None,
    alive: Callable[[], bool] = lambda: True,
) -> ASGIApp:
    """Return the application behind its guard.

    Args:
        options: of the server.
        answers: to requests.
        roster: what is served.
        metrics: what is counted.
        key: that requests must bear, empty where none is needed.
        adaptation: watches and adapts, None where nothing does.
        alive: whether the model's thread is at work.
    """

    def models() -> list[dict[str, JsonValue]]:
        return [described(model, name) for name, model in roster.every]

    def health() -> dict[str, JsonValue]:
        tasks: list[JsonValue] = [*roster.tasks]
        status = (adaptation.wrong if adaptation else "") or "ok"
        status = status if alive() else "the model answers no more; start the server again"
        told: dict[str, JsonValue] = {"status": status, "current": roster.current.name, "tasks": tasks}
        return {**told, **(adaptation.health() if adaptation else {})}

    feedback = adaptation.feedback if adaptation else _no_feedback
    app = make_app(answers, models, feedback, health, metrics)
    local = not key and names_this_machine(f"[{options.host}]" if ":" in options.host else options.host)
    return Guard(app, key=key, local=local, most=options.max_body, seconds=options.timeout_s, metrics=metrics)


def _no_feedback(given: Feedback) -> dict[str, JsonValue]:
    raise ApiError(
        409, "nothing adapts here, so feedback changes nothing; start with --watch or --adapt", "no_feedback"
    )


def _deployed(lm: LanguageModel, encoder: Encoder, carried: LoraWeights | None, folder: str | None) -> Model:
    """Return the deployed model: the base model, with the adapter that it carries."""
    member = None
    if carried is not None and folder is not None:
        own = adapter_sha256(carried)
        member = AdapterRef(path=folder, sha256=own, base_sha256=lm.sha256, rank=carried.rank)
    handed = Handed(
        run_id="",
        task="own",
        base_model=lm.profile.name,
        base_sha256=lm.sha256,
        protocol="likelihood",
        members=(folder if member else None,),
    )
    return Model(handed, Path(), AdaptedModel(members=(member,)), lm, encoder)


def described(served: Served, name: str) -> dict[str, JsonValue]:
    """Return one model of the list of models."""
    by: dict[str, JsonValue] = {"answers": served.name, "run": served.run_id or None}
    return {"id": name, "object": "model", "created": 0, "owned_by": "cao", "cao": by}
