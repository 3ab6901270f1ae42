"""How policies and describers work: a table of a run's configuration, read before any policy is imported."""

from typing import Annotated

from pydantic import Field

from cao.profile_settings import ProfileSettings
from cao.types import Record


class PolicySettings(Record):
    """How policies and describers work. No secret is among them: keys are read from the environment.

    Attributes:
        model: the local policy's and describer's model, named as the run's is; None for the run's own model.
        model_path: a folder with the local policy's model.
        profile: what is set over the profile of a model named here.
        adapter: the local policy's training: ``auto`` for the shipped one, ``none``, or a PEFT folder.
        draws: texts drawn for each proposal of the local policy; of several, the one that the surrogate ranks first is
            proposed, which goes beyond the paper's τ.
        strategy_file: what the fixed policy proposes.
        constrained: whether the local policy decodes under the strategies' grammar.
        temperature: of sampling; 0 takes the most likely token.
        top_p: share of the probability that is sampled from.
        top_k: tokens that are sampled from, 0 for all.
        max_tokens: the length of one proposal; a server's reply that was cut off there is asked for again with more.
        openai_model: the remote model.
        base_url: another server that speaks the same API.
        timeout_s: seconds that one request may take as a whole.
        max_requests: requests in one run, retries included; a describer behind a server has as many of its own.
        max_dollars: what one run may cost, where the model's price is known; the describer as much again.

    Source: CAO-LLM §2.4 (T=1.0, top-p 0.9, top-k 50); the rest is this project's.
    """

    model: str | None = None
    model_path: str | None = None
    profile: ProfileSettings | None = None
    adapter: Annotated[str, Field(min_length=1)] = "auto"
    draws: Annotated[int, Field(ge=1, le=32)] = 1
    strategy_file: str | None = None
    constrained: bool = True
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: Annotated[int, Field(ge=0)] = 50
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    openai_model: Annotated[str, Field(min_length=1)] = "gpt-4o-mini"
    base_url: Annotated[str, Field(pattern=r"^https?://[^@]*$")] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30
    max_requests: Annotated[int, Field(ge=1)] = 50
    max_dollars: Annotated[float, Field(ge=0)] = 0.5
