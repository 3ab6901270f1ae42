"""Table 2: the whole method against every baseline, on tasks that none of them saw. Source: CAO-LLM Table 2, H."""

from eval.baselines.registry import BASELINES
from eval.paper.rows import ALL
from eval.paper.tables.table import Table

TABLE = Table(
    number="2",
    title="The method and its baselines",
    rows=(*BASELINES, ALL),
    pairs=tuple((ALL, baseline) for baseline in BASELINES),
    anchors=(ALL,),
    about="Baselines learn from the sources of the generator that serves the task. No adapter's training saw a task "
    "that it is judged on, but for what its column “reads” names. LoRA on the reward labels chooses its rule by the "
    "questions that it was trained on; `--table labels` keeps these apart.",
)
