"""The rows of the paper's tables: every baseline, every stage of the method, every family of strategies alone."""

from dataclasses import dataclass
from typing import Literal

from cao.strategies import FAMILIES
from cao.strategies.ttl import TTLSettings
from cao.types import AcceptRule
from eval.baselines.checkpoints import OfSources
from eval.baselines.registry import BASELINES

STAGE_1, STAGES_1_2, ALL = "cao_stage_1", "cao_stages_1_2", "cao_all"
"""What the generator makes; the same aligned; a whole run."""

PAPERS_ALL = "cao_all_any"
"""A whole run that accepts as the paper does: whatever has a higher accuracy on the reward part."""

WHOLE = (ALL, PAPERS_ALL)
"""Rows that are whole runs."""

FAMILY = "family_"
ALL_OF_LORA = TTLSettings()
OTHER_TTL: dict[str, tuple[TTLSettings, str]] = {
    f"{FAMILY}TTL_dora": (TTLSettings(peft="dora"), "TTL alone, DoRA"),
    f"{FAMILY}TTL_layers": (TTLSettings(subset="layers"), "TTL alone, most salient layers"),
}
"""Rows that the paper does not have: TTL with its numbers, where something else is trained than all of LoRA."""

CHECKPOINTED = {name: kind() for name, kind in BASELINES.items() if issubclass(kind, OfSources)}
"""Baselines that are made of the sources' checkpoints, which no budget of their own bounds."""

Kind = Literal["baseline", "stage", "family"]

_NAMES = {
    "base": "base model",
    "no_meta_train": "No-Meta-Train",
    "union_train": "Union-Train",
    "mean": "mean of other tasks' checkpoints",
    "nearest": "nearest source's checkpoint",
    "maml": "MAML-en-LLM",
    "abmll": "ABMLL",
    "serl": "SeRL",
    "labelled_lora": "LoRA on the reward labels",
    "text_to_lora": "Text-to-LoRA's kind",
    "seal": "SEAL's kind",
}


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        name: in results and on the command line.
        title: on pages.
        kind: how its model is made.
        reads: what of the target it reads before its test questions.
        seeded: whether a seed, which chooses the questions that it reads, makes a difference.
        code: modules that it depends on, besides those that judge every row.
        family: of strategies that it is of, empty for no family's.
        ttl: what its TTL trains.
        accept: the rule of acceptance of its runs; None for a run's default.
    """

    name: str
    title: str
    kind: Kind
    reads: str
    seeded: bool = True
    code: tuple[str, ...] = ()
    family: str = ""
    ttl: TTLSettings = ALL_OF_LORA
    accept: AcceptRule | None = None


def _baseline(name: str) -> Row:
    kind = BASELINES[name]
    code = () if name == "base" else (kind.__module__, "eval.baselines.cell")
    return Row(name, _NAMES.get(name, name), "baseline", kind.reads, kind.reads not in ("nothing", "description"), code)


_NODES = ("agent.loop.nodes", "agent.loop.start")
_LOOP = ("agent.graph", *_NODES)


_STAGES = ("tools.generate_lora", "tools.align_lora")
_STEERED = "prompts; the reward labels steer the loop; TTL may read the test questions, without their answers"


def _kernels(*families: str) -> tuple[str, ...]:
    """Return the modules that families name as their kernels, and do not import."""
    return tuple(FAMILIES[family].kernel.split(":")[0] for family in families)


_RUN = (*_LOOP, *_kernels(*FAMILIES))


def _family(name: str, title: str, family: str, ttl: TTLSettings = ALL_OF_LORA) -> Row:
    reads = "prompts; the reward labels choose its rule" if family == "Calibrate" else "prompts"
    return Row(name, title, "family", reads, code=(*_LOOP, *_kernels(family)), family=family, ttl=ttl)


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        *map(_baseline, BASELINES),
        Row(STAGE_1, "CAO-LLM, stage 1", "stage", "prompts", code=(*_NODES, "tools.generate_lora")),
        Row(STAGES_1_2, "CAO-LLM, stages 1 and 2", "stage", "prompts", code=(*_NODES, *_STAGES)),
        Row(ALL, "CAO-LLM, all stages", "stage", _STEERED, code=_RUN),
        Row(PAPERS_ALL, "CAO-LLM, accepting as the paper does", "stage", _STEERED, code=_RUN, accept="any"),
        *(_family(f"{FAMILY}{name}", f"{name} alone", name) for name in FAMILIES),
        *(_family(name, title, "TTL", ttl) for name, (ttl, title) in OTHER_TTL.items()),
    )
}


def title(row: str) -> str:
    """Return how a row is called on pages."""
    return ROWS[row].title if row in ROWS else row
