"""SeRL on a target: rounds of writing questions and of reinforcement on them, from unlabelled prompts alone.

A round's questions are those of the target and new ones, which the model writes as it is then. Samples of an answer
vote, and the policy moves towards the majority's answer where the question is neither too easy nor too hard. The
reference code offers REINFORCE++, GRPO and RLOO, and trains all weights; here it is RLOO on LoRA, with its settings but
for the normalisation of rewards, which the trainer does among the samples of a prompt alone. Within a budget, half of
what is left goes to a round's writing at most, and one step is taken whatever is left.

Source: Fang et al., SeRL (2025), and its published code for the settings.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from agent.train.files import read_json
from cao.configuration import Amount, Count
from cao.files import sealed, write_json
from cao.machine.extras import need
from cao.model.adapters import LoraWeights
from cao.model.training_state import restore_training, save_training
from cao.types import Example, Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads, Spent
from eval.baselines.descent import Extent, Read, taken
from eval.baselines.ground import Ground, Target
from eval.baselines.serl.questions import Writing, unasked, write_questions
from eval.baselines.serl.reinforce import Reinforcing, Watch, reinforce
from eval.baselines.serl.votes import answer_of, rewards
from eval.bench.plain.training import live, peft_model


class SerlSettings(Record):
    """Hyper-parameters; the defaults are the reference code's, for one round.

    Attributes:
        rounds: of writing and reinforcement, at most.
        writing: how questions are written.
        reinforcing: how the policy is moved.
        bounds: shares of the majority between which a question is learnt from.
        extent: of all rounds.
    """

    rounds: Count = 1
    writing: Writing = Writing()
    reinforcing: Reinforcing = Reinforcing()
    bounds: tuple[Amount, Amount] = (0.2, 0.8)
    extent: Extent = Extent()


class Round(Record):
    """A round's questions, as a killed training reads them again.

    Attributes:
        questions: in the order in which they are trained on.
        spent: up to here.
    """

    questions: tuple[Example, ...]
    spent: Spent


@dataclass
class Course:
    """How far a training is.

    Attributes:
        spent: so far.
        round: that it is in.
        step: of the round.
    """

    spent: Spent = field(default_factory=Spent)
    round: int = 0
    step: int = 0

    def carried(self) -> dict[str, Tensor]:
        """Return it as a checkpoint holds it."""
        spent = self.spent
        values = [spent.steps, spent.tokens or 0, spent.seconds or 0.0, self.round, self.step]
        return {"course": torch.tensor(values, dtype=torch.float64)}

    @classmethod
    def of(cls, carried: dict[str, Tensor]) -> "Course":
        """Return what a checkpoint holds."""
        steps, tokens, seconds, number, step = carried["course"].tolist()
        return cls(Spent(steps=int(steps), tokens=int(tokens), seconds=seconds), int(number), int(step))


@dataclass(frozen=True)
class Serl(Baseline):
    """Self-play from a task's unlabelled prompts.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: SerlSettings

    name = "serl"
    reads: ClassVar[Reads] = "prompts"

    @classmethod
    def paper(cls) -> Self:
        """Return it with the reference code's settings."""
        return cls(SerlSettings())

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it within the tokens of a method that prepares nothing: small rounds, as many as they pay for."""
        hyper = SerlSettings(
            rounds=budget.alone or 1,
            writing=Writing(wanted=16, shown=4, max_tokens=128),
            reinforcing=Reinforcing(rate=rate, prompts=2, samples=8),
            extent=Extent(tokens=budget.alone),
        )
        return cls(hyper)

    def settings(self) -> SerlSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return LoRA that was reinforced on the target's prompts and on questions like them."""
        need("rl")
        lm, start = ground.lm, ground.lm.fresh_lora(0)
        with peft_model(lm, start) as dressed, Read.by(lm) as read:
            play = _Play(self.hyper, ground, target, place, start, dressed, read)
            play.run()
            return Adapted(taken(play.own, start, self.name), play.course.spent)


class _Play:
    """One training: its adapter, its optimiser, and how far it is."""

    def __init__(
        self,
        hyper: SerlSettings,
        ground: Ground,
        target: Target,
        place: Place,
        start: LoraWeights,
        dressed: nn.Module,
        read: Read,
    ) -> None:
        self.hyper, self.ground, self.target, self.place = hyper, ground, target, place
        self.start, self.dressed, self.read = start, dressed, read
        named = live(dressed)
        self.own = {name: named[name] for name in start.tensors}
        self.optimizer = torch.optim.AdamW(list(self.own.values()), lr=hyper.reinforcing.rate, weight_decay=0.0)
        found = None
        if place.checkpoint:
            found = restore_training(place.checkpoint, place.fingerprint, self.own, self.optimizer, ("course",))
        self.course = Course.of(found) if found else Course()
        self._before, self._began, self._saved = self.course.spent, time.monotonic(), time.monotonic()

    def run(self) -> None:
        """Play rounds until there are enough, or enough tokens are read."""
        course, hyper = self.course, self.hyper
        while course.round < hyper.rounds and not (course.spent.steps and hyper.extent.over(course.spent)):
            questions = self._questions()
            if not course.spent.steps or not hyper.extent.over(course.spent):
                self._reinforce(questions)
            if course.round + 1 == hyper.rounds or hyper.extent.over(course.spent):
                break
            course.round, course.step = course.round + 1, 0
        for number in range(course.round + 1):
            if path := self._path(number):
                path.unlink(missing_ok=True)

    def _questions(self) -> tuple[Example, ...]:
        """Return the round's questions; they are written once."""
        course, path = self.course, self._path(self.course.round)
        if path and path.exists():
            kept = read_json(path, Round)
            if not course.step:
                self._count_from(kept.spent)
            return kept.questions
        seeds = [_unlabelled(example) for example in self.target.support]
        seed = f"{self.target.seed}:{course.round}"
        written = write_questions(self.ground.lm, seeds, self.hyper.writing, seed, self._half_written())
        order = [*seeds, *unasked(written, self.target.task)]
        random.Random(seed).shuffle(order)
        self._count(0)
        if path:
            write_json(path, sealed(Round(questions=tuple(order), spent=course.spent).model_dump(mode="json")))
            self._save()
        return tuple(order)

    def _half_written(self) -> Callable[[], bool]:
        """Return whether a round's writing has read half of the tokens that were left for it and its steps."""
        limit, before = self.hyper.extent.tokens, self.course.spent.tokens or 0
        began = self.read.tokens
        return lambda: bool(limit) and 2 * (self.read.tokens - began) >= limit - before

    def _reinforce(self, questions: tuple[Example, ...]) -> None:
        """Take the round's steps that are left."""
        hyper, task, course = self.hyper, self.target.task, self.course
        left = questions[course.step * hyper.reinforcing.prompts :]

        def after() -> bool:
            course.step += 1
            self._count(1)
            if self.place.checkpoint and time.monotonic() - self._saved >= self.place.every_s:
                self._save()
            limit = hyper.extent.tokens or hyper.extent.steps or len(questions) // hyper.reinforcing.prompts
            done = course.spent.tokens or 0 if hyper.extent.tokens else course.spent.steps
            self.ground.progress("serl", min(done, limit), limit)
            return not hyper.extent.over(course.spent)

        reinforce(
            self.ground.lm,
            self.dressed,
            self.start,
            self.optimizer,
            [task.ask(example) for example in left],
            lambda place, texts: rewards([answer_of(text, left[place]) for text in texts], hyper.bounds),
            hyper.reinforcing,
            max_tokens=task.max_new_tokens,
            watch=Watch(course.spent.steps, self.target.seed, after),
        )

    def _path(self, number: int) -> Path | None:
        """Return the file of a round's questions, beside the checkpoint."""
        return self.place.checkpoint and self.place.checkpoint.with_suffix(f".round-{number}.json")

    def _count(self, steps: int) -> None:
        """Count steps, and what was read and how long it took since this process began."""
        before, spent = self._before, self.course.spent
        self.course.spent = Spent(
            steps=spent.steps + steps,
            tokens=(before.tokens or 0) + self.read.tokens,
            seconds=round((before.seconds or 0.0) + time.monotonic() - self._began, 3),
        )

    def _count_from(self, spent: Spent) -> None:
        """Go on counting from what another process had spent."""
        self.course.spent = self._before = spent

    def _save(self) -> None:
        assert self.place.checkpoint
        save_training(self.place.checkpoint, self.place.fingerprint, self.own, self.optimizer, self.course.carried())
        self._saved = time.monotonic()


def _unlabelled(example: Example) -> Example:
    """Return a question without its label: nothing behind it can read one."""
    return example.model_copy(update={"answer": -1, "gold_text": "", "accepted": (), "labelled": False})
