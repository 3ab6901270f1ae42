"""What was learnt from practice about which strategy to choose: a portfolio and a surrogate, one file a base model.

``agent.train_policy --landscape --install`` writes ``<trained parts>/<model>/selection.json``.
"""

from pathlib import Path

from pydantic import Field, JsonValue

from cao.configuration import SHIPPED
from cao.errors import InputError, UnavailableError
from cao.files import opened
from cao.strategy import StrategyRejectedError, validate_strategy
from cao.types import Record, StrategyFields
from policies.selection.surrogate import Surrogate

SELECTION = "selection.json"
"""The file's name, among the trained parts and in a training's folder."""


def training_command(model: str = "MODEL") -> str:
    """Return the command that makes for a model what ships for the embedded one: a policy, a portfolio, a surrogate.

    Args:
        model: as ``--model`` takes it.
    """
    how = "--landscape --warm-start --iterations 0 --samples 1 --reward 200"
    return f"python -m agent.train_policy --model {model} {how} --install"


class Selection(Record):
    """The file.

    Attributes:
        format: of the file.
        base_sha256: hash of the base model's weights that it was made with.
        portfolio: the strategies in their order.
        surrogate: the regression.
        made: tasks, seeds and sizes of the practice.
    """

    format: int = Field(default=1, ge=1, le=1)
    base_sha256: str
    portfolio: tuple[StrategyFields, ...] = Field(min_length=1)
    surrogate: Surrogate
    made: dict[str, JsonValue] = Field(default_factory=dict)


def selection_file(model: str, pretrained: str | None = None) -> Path:
    """Return where the selection of a base model lies.

    Args:
        model: the profile's name.
        pretrained: the folder of trained parts; None for the shipped one.
    """
    return Path(pretrained or SHIPPED) / model / SELECTION


def check_there(path: Path) -> None:
    """Raise UnavailableError where there is no selection; the message has the command that makes one."""
    if not path.is_file():
        raise UnavailableError(f"{path}: nothing was learnt about this base model; this makes it: {training_command()}")


def read_selection(path: Path, base_sha256: str) -> Selection:
    """Return a selection, every strategy of it held against the bounds and in its one form.

    Raises:
        UnavailableError: there is none, or it was made with another base model; the message has the command.
        InputError: it is damaged.
    """
    check_there(path)
    try:
        found = Selection.model_validate_json(opened(path.read_bytes()))
        portfolio = tuple(validate_strategy(strategy).canonical() for strategy in found.portfolio)
        told = [(point, validate_strategy(point.strategy).canonical()) for point in found.surrogate.points]
    except (OSError, ValueError, StrategyRejectedError, RecursionError) as error:
        raise InputError(
            f"{path}: not a selection ({type(error).__name__}); {training_command()} makes it again"
        ) from None
    if found.base_sha256 != base_sha256:
        raise UnavailableError(f"{path}: was made with other weights; this makes it: {training_command()}")
    points = tuple(point.model_copy(update={"strategy": strategy}) for point, strategy in told)
    return found.model_copy(
        update={"portfolio": portfolio, "surrogate": found.surrogate.model_copy(update={"points": points})}
    )
