"""What a configuration may set over a model's profile: a table, read before any model is."""

from typing import Annotated, Literal

from pydantic import Field

from cao.types import AnswerStyle, Record

Rank = Annotated[int, Field(ge=2, le=4096, multiple_of=2, description="r; even, since mixing takes halves")]
Alpha = Annotated[int, Field(ge=1, le=4096)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class ProfileSettings(Record):
    """What a configuration's table ``[profile]`` may set; what is absent is the profile's own.

    Attributes:
        answer_style: ``text``, ``letter``, or ``measured`` for what a few easy questions say when the model is loaded.
        lora_rank: r, even.
        lora_alpha: α.
        lora_targets: last names of the linear layers that carry LoRA.
        preset: the consolidation preset.
        chat: whether the tokenizer's chat template is used.
        start_token: a token of the vocabulary.
        end_tokens: tokens of the vocabulary.
    """

    answer_style: AnswerStyle | Literal["measured"] | None = None
    lora_rank: Rank | None = None
    lora_alpha: Alpha | None = None
    lora_targets: Names | None = None
    preset: str | None = None
    chat: bool | None = None
    start_token: str | None = None
    end_tokens: tuple[str, ...] | None = None
