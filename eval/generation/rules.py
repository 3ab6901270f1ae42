"""Every adapter and the base model answer by their own best rule, which is chosen on the reward part alone.

The rules and the choice are those of a run's start, so that no row of the table is held down by a rule that does not
suit it. Rules re-score what was measured of each choice; the model is not asked again.

Source: ``tools.evaluate.answer_rule``; the choice on reward is this project's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from cao.types import AnswerRule, AnswerStyle, Item
from eval.generation.bootstrap import Answers
from eval.generation.cells import Ask, Cells
from eval.generation.sheets import PROMPTS, Sheet, questions, task_of
from eval.generation.workshop import Recipe
from tools.evaluate import answer_by
from tools.evaluate.answer_rule import RULES, Prior
from tools.evaluate.priors import batch_prior, same_choices
from tools.evaluate.statistics import best_rule

Reading = Callable[[Sheet, AnswerRule], list[Item]]
"""(one of the task's sheets, an answer rule) → the answers to it."""


@dataclass(frozen=True)
class Judge:
    """One task: where rules are chosen, and where they are reported.

    Attributes:
        reward: the questions that a rule is chosen on.
        test: those that are reported.
    """

    reward: Sheet
    test: Sheet

    @property
    def support(self) -> Sheet:
        """The unlabelled questions that a label's mean share is taken over, the same for every adapter."""
        return Sheet(self.reward.task, "support", PROMPTS)

    def rules(self, style: AnswerStyle) -> list[AnswerRule]:
        """Return the rules that can be compared on the task, the default first."""
        task, asked = task_of(self.reward.task), [*questions(self.support), *questions(self.reward)]
        lead = any(branch.lead for example in asked for branch in task.query(example, style).branches)
        able = {"none": True, "choice": not lead, "batch": same_choices(task, asked, style)}
        return [rule for rule in RULES if able[rule.prior]]

    def asks(self, style: AnswerStyle) -> list[Ask]:
        """Return what an adapter is asked, so that every rule follows."""
        kinds = {rule.prior for rule in self.rules(style)}
        asked = [Ask(sheet, prior="choice" in kinds) for sheet in (self.reward, self.test)]
        return [*asked, Ask(self.support)] if "batch" in kinds else asked

    def best(self, cells: Cells, recipe: Recipe) -> AnswerRule:
        """Return an adapter's own rule, as its answers to the reward part choose it."""
        return self.own_rule(self.reading(cells, recipe), self.rules(cells.lm.profile.answer_style))

    def own_rule(self, read: Reading, rules: Sequence[AnswerRule]) -> AnswerRule:
        """Return the rule that the answers to the reward part choose, of those given."""
        return best_rule({rule: read(self.reward, rule) for rule in rules})

    def reading(self, cells: Cells, recipe: Recipe) -> Reading:
        """Return a scored adapter as what it answers; nothing is read from its files twice."""
        return cache(lambda sheet, rule: self.answers(cells, recipe, sheet, rule))

    def answers(self, cells: Cells, recipe: Recipe, sheet: Sheet, rule: AnswerRule) -> list[Item]:
        """Return a scored adapter's answers to one of the task's sheets by a rule.

        Args:
            cells: where it is scored.
            recipe: of the adapter.
            sheet: the questions, of this task.
            rule: one of ``rules``.
        """
        task, style = task_of(sheet.task), cells.lm.profile.answer_style
        prior = self._prior(cells, recipe, sheet, rule)
        return answer_by(rule, task, questions(sheet), _scored(cells, recipe, sheet), prior, style)

    def _prior(self, cells: Cells, recipe: Recipe, sheet: Sheet, rule: AnswerRule) -> Prior:
        if rule.prior == "choice":
            prior = cells.prior(recipe, sheet)
            assert prior is not None, (recipe, sheet)
            return prior
        if rule.prior == "batch":
            task, items = task_of(sheet.task), _scored(cells, recipe, self.support)
            return batch_prior(task, questions(self.support), items, cells.lm.profile.answer_style)
        return {}

    def judged(self, cells: Cells, recipes: Sequence[Recipe]) -> Answers:
        """Return the answers of one kind of adapter to the test questions, by the default rule and by the best.

        Args:
            cells: where they are scored.
            recipes: one for each seed.
        """
        rules = self.rules(cells.lm.profile.answer_style)
        return self.graded([self.reading(cells, recipe) for recipe in recipes], rules)

    def graded(self, readings: Sequence[Reading], rules: Sequence[AnswerRule]) -> Answers:
        """Return the same of readings, one for each seed, each by its own rule of those given."""
        own = [self.own_rule(read, rules) for read in readings]
        default = [read(self.test, AnswerRule()) for read in readings]
        best = [read(self.test, rule) for read, rule in zip(readings, own, strict=True)]
        return Answers.of(default, best, own)


def _scored(cells: Cells, recipe: Recipe, sheet: Sheet) -> list[Item]:
    items = cells.read(recipe, sheet)
    assert items is not None, (recipe, sheet)
    return items
