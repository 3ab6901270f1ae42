"""Table 5: each family of strategies alone, on top of what a run starts from. Source: CAO-LLM Table 5, G."""

from cao.strategies import FAMILIES
from eval.paper.rows import FAMILY, OTHER_TTL, START
from eval.paper.tables.table import Table

ALONE = tuple(f"{FAMILY}{name}" for name in FAMILIES)
PAPERS = tuple(f"{FAMILY}{name}" for name, family in FAMILIES.items() if family.papers_numbers() is not None)
"""Families that the paper has: its claim is of these."""

TABLE = Table(
    number="5",
    title="Each family of strategies alone",
    rows=(START, *ALONE, *OTHER_TTL),
    pairs=tuple((family, START) for family in (*ALONE, *OTHER_TTL)),
    anchors=(START,),
    chosen=PAPERS,
    about="Each family acts on the start with the paper's numbers, whatever the reward part says of it; Calibrate, "
    "which the paper does not have, takes the rule of its grid with the lowest log-loss on the reward part. Nor has it "
    "the rows in which TTL trains DoRA, the most salient quarter of the layers, or virtual tokens; the last acts where "
    "the start carries no LoRA.",
)
