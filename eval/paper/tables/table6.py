"""Table 6 and Figure 7: what each stage adds, from the base model to the whole method. Source: CAO-LLM Table 6."""

from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1, STAGES_1_2
from eval.paper.tables.table import Table

STAGES = ("base", STAGE_1, STAGES_1_2, ALL)

TABLE = Table(
    number="6",
    title="The stages, one after the other",
    rows=(*STAGES, PAPERS_ALL),
    pairs=(
        *((stage, "base") for stage in STAGES[1:]),
        (STAGES_1_2, STAGE_1),
        *((ALL, stage) for stage in STAGES[1:3]),
        *((PAPERS_ALL, other) for other in ("base", STAGES_1_2)),
    ),
    anchors=STAGES,
    about="Stage 1 is the generated adapter, stages 1 and 2 the aligned one, all three a whole run: the start that the "
    "reward part chooses, and the policy's strategies on top of it.",
)
