"""What the drift sense reaches: false alarms, power, kinds, naming, option signals, streams and speed.

Known tasks are the shipped references (from ``train`` parts). Windows are drawn without replacement from prompts of
the other parts; windows of one cell overlap, for there are at most 1,000 prompts of a task.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import ValidationError

from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.progress import Progress
from eval.drift.levels import false_alarms, power, redrawn_references
from eval.drift.prompts import UNKNOWN, pools
from eval.drift.reports import kinds, nearest, option_signals_power, speed
from eval.drift.results import DriftResult
from eval.drift.streams import stream
from eval.drift.windows import Windows
from tools.detect_drift.reference import IN_DOMAIN, SHIPPED
from tools.detect_drift.reference_file import read_reference

STEPS: dict[str, Callable[[Windows], object]] = {
    "speed": speed,
    "false_alarms": false_alarms,
    "redrawn": redrawn_references,
    "power": power,
    "kinds": kinds,
    "nearest": nearest,
    "stream": stream,
    "signals": option_signals_power,
}
"""Field of the result → its measurement."""


def measure(
    command: str,
    windows: int,
    seed: int,
    progress: Progress,
    only: Sequence[str] = (),
    before: Mapping[str, object] | None = None,
) -> DriftResult:
    """Measure everything, or some of it again.

    Args:
        command: that asked for it; what was measured before keeps its own.
        windows: of a cell, about.
        seed: of the draws; every measurement draws from a stream of its own.
        progress: called during the work.
        only: the measurements to make, all if empty.
        before: the object of a ``drift.json`` with the same windows and seed; the other measurements are taken from it.

    Raises:
        InputError: an unknown measurement, or nothing usable to take the others from.
    """
    unknown = [name for name in only if name not in STEPS]
    if unknown:
        raise InputError(f"no measurement is called {', '.join(unknown)}; there are {', '.join(STEPS)}")
    before = before or {}
    lacking = [name for name in STEPS if only and name not in only and name not in before]
    if lacking or (only and (before.get("windows"), before.get("seed")) != (windows, seed)):
        raise InputError(
            "--only needs a drift.json in --out with the same --windows and --seed; measure all of it first"
        )
    encoder = Encoder(minilm_folder())
    references = {name: read_reference(SHIPPED / f"{name}.safetensors", encoder.sha256) for name in IN_DOMAIN}
    pool = pools((*IN_DOMAIN, *UNKNOWN), encoder, seed, progress)
    measured: dict[str, object] = {"command": before.get("command", command), "windows": windows, "seed": seed}
    for number, (name, step) in enumerate(STEPS.items()):
        if only and name not in only:
            measured[name] = before[name]
            continue
        rng = np.random.default_rng([seed, number])
        measured[name] = step(Windows(references, pool, windows, seed, rng, progress))
    try:
        return DriftResult.model_validate(measured)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise InputError(f"drift.json: {place} is of another version; measure all of it again") from None
