"""What a policy is: it sees the state of a run and says, as text, what to try next."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, runtime_checkable
from typing import Protocol as Interface

from pydantic import AfterValidator, Field, field_validator

from cao.files import canonical_json
from cao.strategies import FAMILIES
from cao.strategy import StrategySchema, strategy_schema
from cao.types import Record, Reward, StrategyFields, Trial


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"a family must be one of {', '.join(FAMILIES)}")
    return name


FamilyName = Annotated[str, AfterValidator(_known_family)]
WithheldOf = dict[FamilyName, dict[str, tuple[str, ...]]]
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
        refused: points of the grid that cannot act on the current model or would change nothing.
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
    withheld: WithheldOf = Field(default_factory=dict)
    refused: tuple[StrategyFields, ...] = ()
    history: tuple[Trial, ...] = ()
    drift: str = ""
    measured: tuple[str, ...] = ()
    features: dict[str, float] = Field(default_factory=dict)

    @field_validator("history")
    @classmethod
    def _strategies_have_families(cls, history: tuple[Trial, ...]) -> tuple[Trial, ...]:
        if any(trial.strategy is not None and "family" not in trial.strategy for trial in history):
            raise ValueError("an attempt's strategy has no family")
        return history

    @field_validator("withheld")
    @classmethod
    def _something_is_left(cls, withheld: WithheldOf) -> WithheldOf:
        for name, keys in withheld.items():
            settings = FAMILIES[name].schema_of()["properties"]
            for key, values in keys.items():
                if not set(settings.get(key, {}).get("enum", ())) - set(values):
                    raise ValueError(f"{name} is offered no {key} besides what is withheld")
        return withheld

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
    def spent(self) -> set[str]:
        """The strategies tried on or refused by the current model, as canonical JSON: none is worth an attempt.

        Each is there as it was tried and as a policy proposes it, without the keys that only a run's settings state.
        """
        strategies = [*spent_on(self.history), *self.refused]
        return {canonical_json(each) for strategy in strategies for each in (strategy, _as_offered(strategy))}


def spent_on(history: Sequence[Trial]) -> list[StrategyFields]:
    """Return the strategies that are not worth an attempt on the model as the attempts left it.

    They are those tried since the last acceptance, behind which all is new, and of each family whose strategies change
    nothing when they are applied again the one that was accepted last.

    Args:
        history: the attempts, oldest first.
    """
    tried = [trial for trial in history if trial.strategy is not None]
    accepted = [number for number, trial in enumerate(tried, 1) if trial.accepted]
    since = [trial.strategy for trial in tried[max(accepted, default=0) :] if trial.strategy is not None]
    in_use = {str(one.strategy["family"]): one.strategy for one in tried if one.accepted and one.strategy is not None}
    return since + [one for family, one in in_use.items() if family in FAMILIES and FAMILIES[family].idempotent]


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
class HasModel(Interface):
    """A policy that a language model on this machine decides for.

    Attributes:
        model_sha256: hash of the model's weights.
    """

    model_sha256: str


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
