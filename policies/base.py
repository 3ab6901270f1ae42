"""What a policy is: it sees the state of a run and says, as text, what to try next."""

from collections.abc import Iterable
from typing import Annotated, Literal, runtime_checkable
from typing import Protocol as Interface

from pydantic import AfterValidator, Field

from cao.files import canonical_json
from cao.strategies import FAMILIES
from cao.strategy import StrategySchema, strategy_schema
from cao.types import Record, Reward, StrategyFields, Trial


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
        withheld: family that can act → values of its keys that cannot.
        history: this run's attempts, oldest first.
        drift: the drift report in one sentence, empty to leave it out. It goes beyond the paper's τ.
        measured: what else was measured before the loop, a sentence each. It goes beyond the paper's τ.
        features: the same as numbers, for policies that compute. They are computed without a label; of which
            model, the start, is what the labels of the reward part chose.

    Source: CAO-LLM §2.4, G.1.
    """

    task: str = ""
    task_context: str = ""
    baseline: Reward | None = None
    families: tuple[FamilyName, ...] = Field(default_factory=lambda: tuple(FAMILIES))
    unavailable: dict[str, str] = Field(default_factory=dict)
    withheld: dict[FamilyName, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    history: tuple[Trial, ...] = ()
    drift: str = ""
    measured: tuple[str, ...] = ()
    features: dict[str, float] = Field(default_factory=dict)

    def offered(self, *, every_key: bool = False) -> StrategySchema:
        """Return the JSON schema of what can act now; ``every_key`` as in ``strategy_schema``."""
        return strategy_schema(self.families or FAMILIES, withheld=self.withheld, every_key=every_key)

    def able(self, strategies: Iterable[StrategyFields]) -> list[StrategyFields]:
        """Return the strategies whose families can act with the values that they state; all where none can."""
        every = list(strategies)
        return [each for each in every if self._offers(each)] or every

    def _offers(self, strategy: StrategyFields) -> bool:
        family = str(strategy["family"])
        without = self.withheld.get(family, {})
        return family in self.families and not any(strategy.get(key) in values for key, values in without.items())

    @property
    def tried(self) -> set[str]:
        """The strategies tried on the current model, as canonical JSON: none of them is worth a second attempt.

        Each is there as it was tried and as a policy proposes it, without the keys that only a run's settings state.
        """
        accepted = [number for number, trial in enumerate(self.history, 1) if trial.accepted]
        since = [trial.strategy for trial in self.history[max(accepted, default=0) :] if trial.strategy is not None]
        return {canonical_json(each) for strategy in since for each in (strategy, _as_offered(strategy))}


def _as_offered(strategy: StrategyFields) -> StrategyFields:
    family = FAMILIES.get(str(strategy["family"]))
    return {key: value for key, value in strategy.items() if family is None or key not in family.unoffered}


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


@runtime_checkable
class HasAdapter(Interface):
    """A policy whose model may carry an adapter.

    Attributes:
        adapter_sha256: the adapter's hash, None where the model is as it is.
    """

    adapter_sha256: str | None


def adapter_of(policy: Policy) -> str | None:
    """Return the hash of the adapter that a policy's model carries, None where there is none."""
    return policy.adapter_sha256 if isinstance(policy, HasAdapter) else None
