"""What a policy is: it sees the state of a run and says, as text, what to try next."""

from typing import Annotated, Literal, runtime_checkable
from typing import Protocol as Interface

from pydantic import AfterValidator, Field

from cao.files import canonical_json
from cao.strategies import FAMILIES
from cao.types import Record, Reward, Trial


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"a family must be one of {', '.join(FAMILIES)}")
    return name


FamilyName = Annotated[str, AfterValidator(_known_family)]
RequestForm = Literal["json_schema", "json_object", "text"]
"""How a server is asked for an object, strictest first: under a schema, in its JSON mode, by words alone."""

REPLIES = 3
"""How many replies a policy behind a server is asked for at most, until one can be used; each counts as a request."""


class PolicyContext(Record):
    """What a policy sees before it proposes.

    Attributes:
        task: the task's name.
        task_context: τ, a paragraph about the task.
        baseline: what the current model, the start of the loop, scores, None where it was not measured.
        families: the families that can act in the present state.
        unavailable: family → why it cannot act now.
        history: this run's attempts, oldest first.
        drift: the drift report in one sentence, empty to leave it out. It goes beyond the paper's τ.
        measured: what else was measured before the loop, a sentence each. It goes beyond the paper's τ.

    Source: CAO-LLM §2.4, G.1.
    """

    task: str = ""
    task_context: str = ""
    baseline: Reward | None = None
    families: tuple[FamilyName, ...] = Field(default_factory=lambda: tuple(FAMILIES))
    unavailable: dict[str, str] = Field(default_factory=dict)
    history: tuple[Trial, ...] = ()
    drift: str = ""
    measured: tuple[str, ...] = ()

    @property
    def tried(self) -> set[str]:
        """The strategies of the history as canonical JSON: none of them is worth a second attempt."""
        return {canonical_json(trial.strategy) for trial in self.history if trial.strategy is not None}


class PolicySettings(Record):
    """How policies and describers work. No secret is among them: keys are read from the environment.

    Attributes:
        model: profile of the local policy's model, None for the run's own model.
        model_path: a folder with the local policy's model.
        adapter: the local policy's training: ``auto`` for the shipped one, ``none``, or a PEFT folder.
        strategy_file: what the fixed policy proposes.
        constrained: whether the local policy decodes under the strategies' grammar.
        temperature: of sampling; 0 takes the most likely token.
        top_p: share of the probability that is sampled from.
        top_k: tokens that are sampled from, 0 for all.
        max_tokens: the length of one proposal; a server's reply that was cut off there is asked for again with more.
        openai_model: the remote model.
        base_url: another server that speaks the same API.
        timeout_s: seconds that one request may take as a whole.
        max_requests: requests in one run, retries included.
        max_dollars: what one run may cost, where the model's price is known.

    Source: CAO-LLM §2.4 (T=1.0, top-p 0.9, top-k 50); the rest is this project's.
    """

    model: str | None = None
    model_path: str | None = None
    adapter: Annotated[str, Field(min_length=1)] = "auto"
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


class Policy(Interface):
    """Proposes strategies as raw text; the graph validates them.

    Attributes:
        name: the name on the command line.
    """

    name: str

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` raw texts, each meant to be one JSON strategy.

        Args:
            context: the state of the run.
            n: how many.
            seed: equal seeds give equal texts where the model is ours.

        Raises:
            UnavailableError: the model behind the policy cannot be reached.
        """
        ...


@runtime_checkable
class AsksServer(Interface):
    """A policy whose model is behind a server.

    Attributes:
        form: the form of request that the server takes, as far as is known; set it to begin with a weaker one.
    """

    form: RequestForm
