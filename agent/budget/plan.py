"""What a run would do and cost on this machine, before anything is computed (``--dry-run``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from agent.budget.leaving import Leaving, leaving
from agent.budget.memory import models_memory, task_profile
from agent.config import RunConfig
from cao.machine.compute import Compute
from cao.model.memory import available
from cao.model.profiles import MODELS, ModelProfile
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import Splits, split
from cao.types import AnswerProtocol, Example
from policies.base import REPLIES
from policies.client.limits import PRICES, SENT_AT_MOST
from tools import pretrained

CHARACTERS_PER_TOKEN = 4.0
USEFUL_SHARE = 0.6
"""What scoring reaches of the rate of products: .6 to .8 seen."""
ACCELERATOR_RATE = 2e13
"""Operations a second that an accelerator is credited with; it is not measured before a run."""
MEMORY_RATE = 1.5e10
"""Bytes a second at which weights are read for each token that is written."""
TOGETHER = 20
"""Texts that are written side by side, about."""
PROPOSAL_TOKENS = (900, 60)
"""Tokens that the local policy reads and writes for one proposal."""
START_UP_SECONDS, DETECT_SECONDS = 6.0, 2.0
SHORTEST, LONGEST = 0.25, 3.0
"""An attempt measures this many times the reward part: one that is dropped at once, and a costly one to its end."""
STARTS = {"none": 1, "generated": 2, "aligned": 3}
"""Models that are measured before the loop: the deployed one, and the adapters made for it."""


class Plan(TypedDict):
    """What a run would do and cost, as ``--dry-run --json`` prints it; seconds as the least and the most."""

    task: str
    source: str
    data: dict[str, object] | None
    model: str
    profile: str
    memory_mb: dict[str, int]
    memory_available_mb: int
    policy: str
    describer: str
    protocol: AnswerProtocol
    reference: list[str]
    splits: Mapping[str, int]
    adapter: str
    variant: str | None
    starts: int
    max_attempts: int
    compute: dict[str, object]
    estimated_seconds: dict[str, list[float]]
    estimated_total_seconds: list[int]
    paid_requests_at_most: int
    dollars_at_most: float | None
    leaves_this_machine: list[Leaving]


@dataclass(frozen=True)
class Speed:
    """What this machine needs for one model.

    Attributes:
        read: seconds a token that is read.
        scored: seconds a position at which the vocabulary is needed.
        written: seconds a token that is written, of one text alone.
    """

    read: float
    scored: float
    written: float

    @classmethod
    def of(cls, compute: Compute, model: ModelProfile) -> "Speed":
        """Return what is expected from the measured rates.

        Args:
            compute: what is computed with.
            model: a model's profile; the larger Qwen2.5 stands in where it does not know its weights.
        """
        known = model if model.trunk else MODELS["qwen2.5-1.5b"]
        trunk, head = float(known.trunk), float(known.head)
        rate = getattr(compute.rates, compute.dtype) if compute.rates else ACCELERATOR_RATE
        size = (4 if compute.dtype == "float32" else 2) * (trunk + head)
        read, scored = (2 * weights / (USEFUL_SHARE * rate) for weights in (trunk, head))
        return cls(read, scored, max(read + scored, size / MEMORY_RATE if compute.rates else 0.0))

    def times(self, factor: float) -> "Speed":
        """Return the speed of a machine on which everything takes ``factor`` times as long."""
        return Speed(factor * self.read, factor * self.scored, factor * self.written)

    def question(self, prompt: float, answers: float) -> float:
        """Return the seconds of ranking one question's answers.

        Args:
            prompt: characters of the prompt.
            answers: characters of all answers.
        """
        return ((prompt + answers) * self.read + answers * self.scored) / CHARACTERS_PER_TOKEN

    @property
    def one_of_many(self) -> float:
        """Seconds a token that is written, of texts that are written side by side."""
        return max(self.read + self.scored, self.written / TOGETHER)

    @property
    def proposal(self) -> float:
        """Seconds of one proposal by the local policy."""
        read, written = PROPOSAL_TOKENS
        return read * self.read + written * self.written


def stage_seconds(
    speed: Speed, config: RunConfig, reward: float, test: float, *, starts: int
) -> dict[str, tuple[float, float]]:
    """Return the least and the most seconds of each stage.

    Args:
        speed: of this machine.
        config: of the run.
        reward: seconds of measuring one model on the reward part.
        test: seconds of measuring one model on the test part.
        starts: models that are measured before the loop.
    """
    describe = 1.5 * speed.proposal if config.describer == "local" else 0.5
    proposal = speed.proposal if config.policy == "local" else 2.0 if config.policy == "openai" else 0.0
    return {
        "start-up": (START_UP_SECONDS, START_UP_SECONDS),
        "describe": (describe, describe),
        "detect": (DETECT_SECONDS, DETECT_SECONDS),
        "start": (reward * (1 + SHORTEST * (starts - 1)), reward * starts),
        "each attempt": (proposal + SHORTEST * reward, 2 * proposal + LONGEST * reward),
        "test": (test, 2 * test),
    }


def total_seconds(stages: dict[str, tuple[float, float]], attempts: int) -> tuple[float, float]:
    """Return the least and the most seconds of a whole run of 1 to ``attempts`` attempts, or of none."""
    least = sum(low for low, _ in stages.values())
    most = sum(high for _, high in stages.values())
    most += (attempts - 1) * stages["each attempt"][1] if attempts else 0.0
    return least, most


def default_run_seconds(compute: Compute) -> tuple[float, float]:
    """Return the least and the most seconds of the default run, on GSM8K: what its ``--dry-run`` says."""
    config = RunConfig(task="gsm8k")
    task = get_task(config.task)
    splits = split(task, support=config.support, reward=config.reward, test=config.test, seed=config.seed)
    low, high = plan(config, compute, task, splits, "likelihood")["estimated_total_seconds"]
    return low, high


def part_seconds(speed: Speed, task: Task, examples: list[Example], protocol: AnswerProtocol) -> float:
    """Return the seconds of measuring one model on some questions."""
    seconds = sum(speed.question(len(e.prompt), sum(map(len, e.choices))) for e in examples)
    if protocol == "generate":
        seconds += len(examples) * task.max_new_tokens * speed.one_of_many
    return seconds


def plan(config: RunConfig, compute: Compute, task: Task, splits: Splits, protocol: AnswerProtocol) -> Plan:
    """Return the plan with its estimated cost.

    Args:
        config: the run's configuration.
        compute: what would be computed with.
        task: what would be adapted to.
        splits: the questions that would be asked.
        protocol: how answers would be judged.
    """
    chosen = expected_variant(config, task.name)
    starts = expected_starts(config, chosen)
    profile, needs = task_profile(config), models_memory(config, compute)
    speed = Speed.of(compute, profile)
    reward, test = (part_seconds(speed, task, part, protocol) for part in (splits.reward, splits.test))
    stages = stage_seconds(speed, config, reward, test, starts=starts)
    attempts = config.max_attempts if task.labelled else 0
    if not attempts:
        del stages["each attempt"]
    requests, dollars = paid_at_most(config, attempts)
    return {
        "task": task.name,
        "source": task.source,
        "data": task.reading.model_dump(mode="json") if task.reading else None,
        "model": config.model,
        "profile": profile.sentence(),
        "memory_mb": {need.what: round(need.size / 1e6) for need in needs},
        "memory_available_mb": round(available() / 1e6),
        "policy": config.policy,
        "describer": config.describer,
        "protocol": protocol,
        "reference": config.reference,
        "splits": splits.sizes,
        "adapter": "generated" if chosen and starts == STARTS["generated"] else config.adapter,
        "variant": chosen.name if chosen else None,
        "starts": starts,
        "max_attempts": attempts,
        "compute": compute.model_dump(mode="json"),
        "estimated_seconds": {name: [round(low, 1), round(high, 1)] for name, (low, high) in stages.items()},
        "estimated_total_seconds": [round(seconds) for seconds in total_seconds(stages, attempts)],
        "paid_requests_at_most": requests,
        "dollars_at_most": dollars,
        "leaves_this_machine": leaving(config, task, attempts),
    }


def starts_of(adapter: str, *, generator: bool, aligner: bool) -> int:
    """Return how many models are measured before the loop.

    Args:
        adapter: that the run asks for.
        generator: whether one serves its task.
        aligner: whether one stands behind that.
    """
    able = "none" if not generator else "aligned" if aligner else "generated"
    return min(STARTS[adapter], STARTS[able])


def expected_starts(config: RunConfig, serves: pretrained.Variant | None) -> int:
    """Return how many models are measured before the loop, where this serves the run's task."""
    return starts_of(config.adapter, generator=serves is not None, aligner=bool(serves and serves.aligner))


def paid_at_most(config: RunConfig, attempts: int) -> tuple[int, float | None]:
    """Return the requests to a paid server and their dollars at most, None where the model's price is not known.

    A request that fails is sent again, and in another form where the server refuses one. Describer and policy each have
    the whole of ``max_requests`` and ``max_dollars``.

    Args:
        config: the run's configuration.
        attempts: of the loop, at most.
    """
    settings = config.policy_settings
    replies = ((config.describer, 1), (config.policy, attempts * REPLIES))
    asked = [count for who, count in replies if who == "openai" and count]
    requests = sum(min(count * SENT_AT_MOST, settings.max_requests) for count in asked)
    known = not asked or settings.openai_model in PRICES
    return requests, len(asked) * settings.max_dollars if known else None


def expected_variant(config: RunConfig, task: str) -> pretrained.Variant | None:
    """Return the variant that a run would use as far as that is known without loading its model, else None.

    The index knows models by the hash of their weights; before those are read only the profile's name is known.

    Args:
        config: the run's configuration.
        task: the task's name.
    """
    place = pretrained.index_of(config.pretrained)
    index = pretrained.read_index(place)
    if index is None or config.model_path is not None or config.adapter == "none":
        return None
    known = [base_sha256 for base_sha256, shelf in index.models.items() if shelf.name == config.model]
    return pretrained.choose(known[0], task, config.variant, place) if known else None
