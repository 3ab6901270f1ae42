"""Curves as files that TensorBoard reads; needs the extra ``tensorboard``."""

import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from agent.telemetry.scalars import Curves

FILES = "events.out.tfevents.*"


def write_curves(place: Path, curves: Curves) -> int:
    """Write curves into a folder in place of what was written there before; return how many points they have.

    Args:
        place: the folder, made where it is missing; of its other files none is touched.
        curves: what is drawn.
    """
    for old in place.glob(FILES):
        old.unlink()
    with SummaryWriter(str(place)) as writer:
        for name, points in curves.items():
            for point in points:
                writer.add_scalar(name, point.value, point.step, point.time if point.time is not None else time.time())
    return sum(map(len, curves.values()))
