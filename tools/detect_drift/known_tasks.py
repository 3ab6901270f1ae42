"""What the system knows: one reference sample for each known task, and the classifier that tells them apart.

Each reference is divided into two halves, at random, or the earlier rows and the later ones where it was cut out of a
stream. One half trains whatever learns (the classifier, the neighbours); the other half stays exchangeable with a
window from the same task, so that tests and ranks against it are exact.
Everything here depends on the references alone and is computed once for any number of windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from cao.errors import InputError
from tools.detect_drift.energy import distances
from tools.detect_drift.permutation import Array

NEIGHBOURS = 5
"""Nearest rows that a prompt's typicality is measured by."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A sample of one known task.

    Attributes:
        embeddings: (m, C), unit length, of one encoder.
        signals: (m, 2), the best option's log-probability and the options' entropy in nats; None where not measured.
        correct: (m,), bool, whether the deployed model's answer was right; None where not known.
        judged_by: hash of the model that signals and answers come from, None where they came with the prompts.
        in_order: whether the rows are neighbours in a stream. What is learnt from some of them would know their
            neighbours better than anything that comes later, so then the halves are the earlier and the later rows.
    """

    embeddings: Tensor
    signals: Tensor | None = None
    correct: Tensor | None = None
    judged_by: str | None = None
    in_order: bool = False

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Row numbers that things are trained on, and those that stay exchangeable with a window."""
        size = len(self.embeddings)
        rows = torch.arange(size) if self.in_order else torch.from_numpy(np.random.default_rng(0).permutation(size))
        return rows[: size // 2], rows[size // 2 :]

    @cached_property
    def distances(self) -> Tensor:
        """(m, m), distances between the rows."""
        return distances(self.embeddings, self.embeddings)

    @cached_property
    def learnt(self) -> Tensor:
        """(m // 2, C), the half that things are trained on."""
        return self.embeddings[self.halves[0]]

    @cached_property
    def held(self) -> Tensor:
        """(m − m // 2, C), the half that stays exchangeable with a window."""
        return self.embeddings[self.halves[1]]

    @cached_property
    def held_remoteness(self) -> Array:
        """Remoteness of each held row."""
        return self.remoteness(self.distances[self.halves[1]])

    def remoteness(self, to_rows: Tensor) -> Array:
        """Return the mean distance of each of n points to its nearest rows in the learnt half, (n,).

        Args:
            to_rows: (n, m), distances of the points to all rows.
        """
        to_learnt = to_rows[:, self.halves[0]]
        near = min(NEIGHBOURS, to_learnt.shape[1])
        result: Array = to_learnt.topk(near, largest=False).values.mean(1).numpy()
        return result

    def typicality(self, remoteness: Array) -> Array:
        """Return conformal p-values of n points: uniform for a new prompt of this task, small for an outlier.

        Args:
            remoteness: (n,), of the points.

        Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, §2.
        """
        held = np.sort(self.held_remoteness)
        at_least = len(held) - np.searchsorted(held, remoteness - 1e-6, side="left")
        result: Array = (1 + at_least) / (len(held) + 1)
        return result


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """The known tasks, and which of them the system serves at present.

    Attributes:
        references: task name to its sample, all of one encoder.
        current: the tasks that prompts are expected from; empty for all.

    Raises:
        InputError: no reference, or a current task without one.
        ValueError: embeddings that are not finite.
    """

    references: Mapping[str, Reference]
    current: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.references:
            raise InputError("drift needs at least one reference task to compare with")
        unknown = [name for name in self.current if name not in self.references]
        if unknown:
            raise InputError(f"no reference for {', '.join(map(repr, unknown))}")
        for name, reference in self.references.items():
            if not bool(torch.isfinite(reference.embeddings).all()):
                raise ValueError(f"the embeddings of {name!r} hold values that are not finite")

    @property
    def names(self) -> tuple[str, ...]:
        """The known tasks, in order."""
        return tuple(self.references)

    @property
    def expected(self) -> tuple[str, ...]:
        """The tasks that prompts are expected from."""
        return tuple(self.current) or self.names

    def heard_from(self, model_sha256: str | None) -> "KnownTasks":
        """Return the tasks with what one model said of them; what others said compares with nothing of it.

        Outcomes that came with a reference's prompts are taken for those of the deployed model.

        Args:
            model_sha256: hash of the deployed model; None where it is not known.
        """
        kept = dict[str, Reference]()
        for name, one in self.references.items():
            another = one.judged_by != model_sha256
            signals = None if another else one.signals
            correct = None if another and one.judged_by else one.correct
            kept[name] = replace(one, signals=signals, correct=correct)
        return KnownTasks(kept, self.current)

    def distances_to(self, points: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the distances of (n, C) points to every row of the named tasks, (n, m) each; of all tasks if empty."""
        if names:
            return {name: distances(points, self.references[name].embeddings) for name in names}
        sizes = [len(reference.embeddings) for reference in self.references.values()]
        return dict(zip(self.names, torch.split(distances(points, self._rows), sizes, dim=1), strict=True))

    @cached_property
    def _rows(self) -> Tensor:
        return torch.cat([reference.embeddings for reference in self.references.values()]).double()

    @cached_property
    def _classifier(self) -> LinearDiscriminantAnalysis:
        return _discriminants([reference.learnt for reference in self.references.values()])

    def log_probabilities(self, points: Tensor) -> Array:
        """Return log P(task | prompt), (n, K), for (n, C) points, given that each is from one of the known tasks.

        Source: linear discriminant analysis; shrinkage by Ledoit and Wolf 2004.
        """
        if len(self.names) == 1:
            return np.zeros((len(points), 1))
        return _log_probabilities(self._classifier, points)

    @cached_property
    def mean_distances(self) -> Array:
        """Mean distance of every reference row to every task's sample, itself excluded, (Σm, K)."""
        samples = [reference.embeddings for reference in self.references.values()]
        columns = []
        for k, sample in enumerate(samples):
            parts = [distances(rows, sample).sum(1) / max(len(sample) - (k == j), 1) for j, rows in enumerate(samples)]
            columns.append(torch.cat(parts))
        result: Array = torch.stack(columns, dim=1).numpy()
        return result

    @cached_property
    def held_odds(self) -> dict[str, Array]:
        """The odds against each task for its own held rows."""
        return {name: self.odds_against(name, self.log_probabilities(it.held)) for name, it in self.references.items()}

    def odds_against(self, name: str, logs: Array) -> Array:
        """Return the log-odds of the other known tasks against ``name``, (n,), from (n, K) log-probabilities."""
        return _odds(logs, self.names.index(name))

    @cached_property
    def _signal_classifiers(self) -> dict[str | None, tuple[list[str], LinearDiscriminantAnalysis]]:
        """For each model that was asked: the tasks that hold its signals, and what tells them apart by these."""
        asked: dict[str | None, dict[str, Tensor]] = {}
        for name, it in self.references.items():
            if it.signals is not None:
                asked.setdefault(it.judged_by, {})[name] = it.signals[it.halves[0]]
        return {
            model: (list(rows), _discriminants(list(rows.values()))) for model, rows in asked.items() if len(rows) > 1
        }

    def signal_odds_against(self, name: str, signals: Tensor) -> Array | None:
        """Return the log-odds of the other tasks against ``name`` by (n, 2) option signals alone.

        Returns:
            (n,), or None where no other task holds signals of the same model.
        """
        names, classifier = self._signal_classifiers.get(self.references[name].judged_by, ([], None))
        return _odds(_log_probabilities(classifier, signals), names.index(name)) if name in names else None


def _discriminants(samples: Sequence[Tensor]) -> LinearDiscriminantAnalysis:
    """Return normal classes with one shrunken covariance and equal shares, fitted to (m_k, C) rows each."""
    labels = np.repeat(np.arange(len(samples)), [len(rows) for rows in samples])
    share = np.full(len(samples), 1 / len(samples))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=share)
    return model.fit(torch.cat(list(samples)).double().numpy(), labels)


def _log_probabilities(classifier: LinearDiscriminantAnalysis, points: Tensor) -> Array:
    scores = classifier.decision_function(points.double().numpy())
    if scores.ndim == 1:  # two tasks: the library gives the log-odds of the second
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    result: Array = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return result


def _odds(logs: Array, mine: int) -> Array:
    others: Array = np.logaddexp.reduce(np.delete(logs, mine, axis=1), axis=1)
    result: Array = others - logs[:, mine]
    return result
