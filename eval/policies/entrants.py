"""The policies that the table of policies compares, each as something that proposes texts in a situation."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.train.policy.situations import Situation
from cao.errors import InputError
from cao.files import append_line, canonical_json, sha256_bytes, whole_lines
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategies import FAMILIES, Strategy
from cao.types import Trial
from eval.policies.sources import Arms, Learnt
from policies.bandit import BanditPolicy
from policies.base import PolicyContext
from policies.grid import papers_choice
from policies.local import LocalPolicy
from policies.messages import plain_json
from policies.selection.learnt import Selection
from policies.selection.portfolio import PortfolioPolicy
from policies.selection.ranked import best_first
from policies.selection.surrogate import Surrogate, SurrogatePolicy
from policies.uniform import RandomPolicy

RANKED = 8
"""Texts of which the surrogate ranks one first."""


@dataclass(frozen=True)
class Entrant(ABC):
    """One row of the table.

    Attributes:
        name: of the row.
        description: what it is, for the reader.
        draws: first attempts that are looked at in each situation; one where it always says the same.
    """

    name: str
    description: str
    draws: int

    def speaks_of(self, task: str) -> bool:
        """Return whether it has anything to propose for a task."""
        return True

    @abstractmethod
    def propose(self, situation: Situation, history: Sequence[Trial], n: int, seed: int) -> list[str]:
        """Return ``n`` raw texts.

        Args:
            situation: where.
            history: attempts that failed there.
            n: how many.
            seed: equal seeds give equal texts.
        """


@dataclass(frozen=True)
class Always(Entrant):
    """One strategy for a task, whatever was measured; None says for tasks alone what suits them best in the paper."""

    strategy: Strategy | None

    def speaks_of(self, task: str) -> bool:
        """Return whether the paper names a strategy for the task, true for any fixed one."""
        return self.strategy is not None or papers_choice(task) is not None

    def propose(self, situation: Situation, history: Sequence[Trial], n: int, seed: int) -> list[str]:
        """Return the same text ``n`` times."""
        strategy = self.strategy or papers_choice(situation.bench.task.name)
        assert strategy is not None, situation.name
        return [plain_json(strategy.canonical())] * n


@dataclass(frozen=True)
class Drawing(Entrant):
    """A policy of ``policies`` that costs next to nothing."""

    policy: RandomPolicy | BanditPolicy | PortfolioPolicy | SurrogatePolicy

    def propose(self, situation: Situation, history: Sequence[Trial], n: int, seed: int) -> list[str]:
        """Return what the policy says."""
        return self.policy.propose(situation.after(history), n, seed)


CODE = 2
"""Raised where a language model would write otherwise: kept texts are of no use then."""


@dataclass(frozen=True)
class Writing(Entrant):
    """A language model's policy; what it wrote is remembered in a file, since a text costs seconds."""

    policy: LocalPolicy
    memory: Path

    def propose(self, situation: Situation, history: Sequence[Trial], n: int, seed: int) -> list[str]:
        """Return what the policy says."""
        context = situation.after(history)
        key = self._key("propose", context, n, seed)
        return self._recall(key) or self._remember(key, self.policy.propose(context, n, seed))

    def write_freely(self, free: LocalPolicy, situation: Situation, n: int, seed: int) -> list[str]:
        """Return ``n`` first attempts without the grammar, none drawn again.

        Args:
            free: the same policy, unconstrained.
            situation: where.
            n: how many.
            seed: equal seeds give equal texts.
        """
        key = self._key("free", situation.context, n, seed)
        return self._recall(key) or self._remember(key, free.draw(situation.context, n, seed))

    def _key(self, kind: str, context: PolicyContext, n: int, seed: int) -> str:
        prompt, lm = sha256_bytes(self.policy.prompt(context).encode()), self.policy.lm
        how = [CODE, lm.sha256, lm.dtype, self.policy.settings.model_dump(mode="json")]
        return canonical_json([kind, how, self.policy.adapter_sha256, prompt, context.offered(), n, seed])

    def _recall(self, key: str) -> list[str] | None:
        return _texts(self.memory).get(key)

    def _remember(self, key: str, texts: list[str]) -> list[str]:
        append_line(self.memory, json.dumps([key, texts]))
        return texts


@dataclass(frozen=True)
class Ranked(Entrant):
    """Of several texts of a language model's policy, the one that the surrogate ranks first, as in a run."""

    writing: Writing
    surrogate: Surrogate

    def propose(self, situation: Situation, history: Sequence[Trial], n: int, seed: int) -> list[str]:
        """Return the best ``n`` of ``RANKED`` texts."""
        texts = self.writing.propose(situation, history, RANKED, seed)
        return best_first(texts, self.surrogate, situation.after(history))[:n]


def _texts(memory: Path) -> dict[str, list[str]]:
    try:
        return {key: [str(text) for text in texts] for key, texts in map(json.loads, whole_lines(memory))}
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{memory}: damaged; delete it to have the texts drawn again") from None


_TRAINED = {
    "shipped": "the one that ships",
    "ReST-EM": "the same after that iteration, on-policy from the untrained model on",
    "taught by the grid": "the same, fine-tuned on the grid's points that improve the model in practice",
    "warm ReST-EM": "the one taught by the grid after that iteration, on-policy",
}


def entrants(
    lm: LanguageModel,
    settings: PolicySettings,
    learnt: Learnt,
    draws: int,
    memory: Path,
) -> list[Entrant]:
    """Return the rows of the table but the oracle.

    Args:
        lm: the model that decides.
        settings: how it samples.
        learnt: what is judged; a bandit that knows nothing of practice is no row.
        draws: first attempts of those that draw, in each situation.
        memory: file of what the model wrote.
    """
    families, selection = ", ".join(FAMILIES), learnt.selection
    written = [
        Writing(name, _TRAINED[name.rstrip(" 0123456789")], draws, LocalPolicy(lm, settings, weights), memory)
        for name, weights in learnt.adapters.items()
    ]
    return [
        Drawing("random", f"one of {families}, then every value within its bounds", draws, RandomPolicy()),
        *(
            Always(f"always {family}", f"`{plain_json(number.canonical())}`, the paper's numbers", 1, number)
            for family, model in FAMILIES.items()
            if (number := model.papers_numbers())
        ),
        Always("paper's choice", "the family the paper found best for the task, where it names one", 1, None),
        *(_bandit(learnt.arms, draws) if learnt.arms else ()),
        *(_selected(selection) if selection else ()),
        Writing("untrained", "the language model under the grammar", draws, LocalPolicy(lm, settings), memory),
        *written,
        *(_ranked(written[-1], selection.surrogate) if written and selection else ()),
    ]


def _ranked(writing: Writing, surrogate: Surrogate) -> list[Entrant]:
    setting = f"`--set policy_settings.draws={RANKED}`"
    said = f"of {RANKED} texts of {writing.name} the one that the surrogate ranks first ({setting})"
    return [Ranked(f"{writing.name}, ranked", said, 1, writing, surrogate)]


def _bandit(arms: Arms, draws: int) -> list[Entrant]:
    said = "Thompson sampling over the grid, with what its points came to in practice"
    return [Drawing("bandit", said, draws, BanditPolicy(arms))]


def _selected(selection: Selection) -> list[Entrant]:
    """Return the rows of what was learnt without a language model; each always says the same in one situation."""
    return [
        Drawing("portfolio", "one order of strategies for all tasks", 1, PortfolioPolicy(selection.portfolio)),
        Drawing(
            "surrogate",
            "what a ridge regression on unlabelled features ranks first",
            1,
            SurrogatePolicy(selection.surrogate),
        ),
    ]
