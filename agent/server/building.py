"""What serves requests, put together: models loaded and opened, the model's thread, the application before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from starlette.types import ASGIApp

from agent.handover.model import Model
from agent.handover.opening import open_beside
from agent.handover.settings import Handed
from agent.server.app import Answers, make_app
from agent.server.engine import Engine
from agent.server.errors import ApiError
from agent.server.guards import Guard
from agent.server.listening import Listener
from agent.server.local import Local
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served, served
from agent.server.settings import BASE, Place, ServeOptions
from agent.server.wire import Feedback
from cao.machine.assets import minilm_folder
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.start_adapter import attach_adapter
from cao.progress import timed
from cao.types import AdaptedModel, AdapterRef


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


def make_site(options: ServeOptions, lying: Sequence[Place], key: str) -> Site:
    """Load what is served, and start what works behind the requests.

    Args:
        options: what the command takes.
        lying: where the adopted models lie.
        key: that requests must bear, empty where none is needed.

    Raises:
        InputError: a folder is damaged, or was made with other weights.
        UnavailableError: the base model is not at hand.
    """
    with timed("loading the language model"):
        lm = load_model(options)
    carried = attach_adapter(lm, Path(options.start_adapter)) if options.start_adapter else None
    encoder = Encoder(minilm_folder(), options.device)
    roster = Roster(served(BASE, _deployed(lm, encoder, carried, options.start_adapter)))
    roster.routes |= {at.name: served(at.name, open_beside(at.folder, lm, encoder, carried)) for at in lying}
    metrics = Metrics()
    engine = Engine(lm, batch=options.batch, queue=options.queue)
    metrics.gauge("cao_waiting", "Jobs that have not begun", lambda: engine.waiting)
    metrics.gauge("cao_active", "Texts that are being written", lambda: engine.active)
    metrics.now_current(roster.current.name)
    listener = Listener(roster)
    local = Local(engine, roster, listener, metrics, options.max_tokens)
    engine.start()
    return Site(_app(options, local, roster, metrics, key), roster, engine.stop)


def _app(options: ServeOptions, answers: Answers, roster: Roster, metrics: Metrics, key: str) -> ASGIApp:
    def models() -> list[dict[str, JsonValue]]:
        return [described(roster.resolve(name), name) for name in roster.names]

    def health() -> dict[str, JsonValue]:
        return {"status": "ok", "current": roster.current.name, "tasks": list(roster.tasks)}

    app = make_app(answers, models, _no_feedback, health, metrics)
    return Guard(app, key=key, most=options.max_body, seconds=options.timeout_s, metrics=metrics)


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
