"""The losses of a run's items at each model's own temperature; a module of its own, since it takes torch to import."""

from pathlib import Path

from cao.errors import InputError
from tools.evaluate.items import load_items
from tools.evaluate.temperature import losses


def read_losses(file: Path) -> dict[str, float]:
    """Return id → loss of each question, in nats; none where the file is not what this code wrote."""
    try:
        items = load_items(file)
    except InputError:
        return {}
    if not all(0 <= item.gold < len(item.scores) for item in items if item.scores):
        return {}
    return dict(zip([item.id for item in items], losses(items).tolist(), strict=True))
