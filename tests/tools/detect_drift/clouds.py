"""Made-up embeddings, tasks known by them, and texts to go with them."""

import torch
from torch import Tensor

from tools.detect_drift.known_tasks import KnownTasks, Reference


def tasks(current: tuple[str, ...] = (), **references: Tensor) -> KnownTasks:
    return KnownTasks({name: Reference(rows) for name, rows in references.items()}, current)


def cloud(seed: int, n: int, shift: float = 0.0, channels: int = 8) -> Tensor:
    points = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    points[:, 0] += shift
    return torch.nn.functional.normalize(points, dim=1)


def texts(n: int) -> list[str]:
    return [f"question number {i}" for i in range(n)]
