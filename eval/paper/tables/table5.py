"""Table 5: each family of strategies alone, on top of what stage 1 makes. Source: CAO-LLM Table 5, G."""

from cao.strategies import FAMILIES
from eval.paper.rows import FAMILY, OTHER_TTL, STAGE_1
from eval.paper.tables.table import Table

ALONE = tuple(f"{FAMILY}{name}" for name in FAMILIES)
PAPERS = tuple(f"{FAMILY}{name}" for name, family in FAMILIES.items() if family.papers_numbers() is not None)
"""Families that the paper has: its claim is of these."""

TABLE = Table(
    number="5",
    title="Each family of strategies alone",
    rows=(STAGE_1, *ALONE, *OTHER_TTL),
    pairs=tuple((row, STAGE_1) for row in (*ALONE, *OTHER_TTL)),
    anchors=(STAGE_1,),
    chosen=PAPERS,
    about="Each family acts on the adapter that stage 1 makes, with the paper's numbers, whatever the reward part says "
    "of either; a run starts from that adapter only where the reward part shows a gain.",
    of_rows={
        f"{FAMILY}Calibrate": "Calibrate, which the paper has not, takes the rule of its grid with the lowest log-loss "
        "on the reward part.",
        f"{FAMILY}TTS": "TTS answers by adapters from twenty batches of the prompts.",
        f"{FAMILY}TTL_dora": "The paper has no row in which TTL trains DoRA.",
        f"{FAMILY}TTL_layers": "The paper has no row in which TTL trains the most salient quarter of the layers.",
    },
)
