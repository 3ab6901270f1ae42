"""Table 5: each family of strategies alone, on top of what a run starts from. Source: CAO-LLM Table 5, G."""

from cao.strategies import FAMILIES
from eval.paper.rows import FAMILY, OTHER_TTL, STAGE_1, START
from eval.paper.tables.table import Table

TTS = f"{FAMILY}TTS"
ALONE = tuple(f"{FAMILY}{name}" for name in FAMILIES)
PAPERS = tuple(f"{FAMILY}{name}" for name, family in FAMILIES.items() if family.papers_numbers() is not None)
"""Families that the paper has: its claim is of these."""

TABLE = Table(
    number="5",
    title="Each family of strategies alone",
    rows=(START, STAGE_1, *ALONE, *OTHER_TTL),
    pairs=(
        *((row, START) for row in (STAGE_1, *ALONE, *OTHER_TTL)),
        (TTS, STAGE_1),
    ),
    anchors=(START, STAGE_1),
    chosen=PAPERS,
    about="Each family acts on the start with the paper's numbers, whatever the reward part says of it; Calibrate, "
    "which the paper does not have, takes the rule of its grid with the lowest log-loss on the reward part. TTS "
    "answers by twenty generated adapters whatever the start is, so it is held against stage 1, too. Nor has the paper "
    "the rows in which TTL trains DoRA, the most salient quarter of the layers, or virtual tokens; the last acts where "
    "the start carries no LoRA.",
)
