"""What a generator's sealed file says about it: sizes, normalisation, what it is for, how it was trained."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cao.errors import InputError
from cao.sealed import Header
from tools.generate_lora.core_head import core_shape
from tools.generate_lora.decoder import Ladder, Shape
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import TokenLayout

Head = Literal["tokens", "core"]
"""What the decoder writes: the adapter's own scalars as tokens, or a core between shared matrices."""


def written(head: Head, layout: TokenLayout) -> Shape:
    """Return the shape in which a decoder ends."""
    return core_shape(layout) if head == "core" else (layout.tokens, *layout.frame)


@dataclass(frozen=True)
class Identity:
    """What a generator is for.

    Attributes:
        base_sha256: the base model.
        encoder_sha256: the frozen encoder that conditions it.
        initial_seed: seed of the LoRA initialisation that every checkpoint started from.
        initial_sha256: hash of that initialisation; it is drawn again at loading and has to agree.
    """

    base_sha256: str
    encoder_sha256: str
    initial_seed: Annotated[int, Field(ge=0, lt=2**63)]
    initial_sha256: str


class GeneratorHeader(Header):
    """The header of a generator's file.

    Attributes:
        format: of the file.
        ladder: the decoder's sizes.
        layout: the tokens.
        statistics: how residuals are normalised.
        head: what the decoder writes.
        identity: base model, encoder, initialisation.
        made: how it was trained.
    """

    what: ClassVar[str] = "a generator"
    hash_key: ClassVar[str] = "content"
    label: ClassVar[str] = "{name}{shape}{dtype}"

    format: Literal["cao-generator-1"] = "cao-generator-1"
    ladder: Ladder
    layout: TokenLayout
    statistics: StatisticsMode
    head: Head = "tokens"
    identity: Identity
    made: dict[str, object]


def check_statistics(statistics: Statistics, layout: TokenLayout) -> None:
    """Raise InputError where statistics are not those of a layout's adapters."""
    own = statistics.mode == "layer"
    centre, scale = (layout.layers, 2 if own else layout.length), (layout.layers, 2 if own else 1)
    if (tuple(statistics.centre.shape), tuple(statistics.scale.shape)) != (centre, scale):
        raise InputError("its statistics do not fit its token layout")
    if not bool((statistics.scale > 0).all()):
        raise InputError("its statistics hold a spread that is not above zero")
