"""Table 2: the whole method against every baseline, on tasks that none of them saw. Source: CAO-LLM Table 2, H."""

from eval.baselines.registry import BASELINES
from eval.paper.rows import ALL, PAPERS_ALL
from eval.paper.tables.table import Table

PAPERS = ("base", "no_meta_train", "union_train", "maml", "abmll", "serl")
"""The rows that the paper's own Table 2 has beside the method."""

TABLE = Table(
    number="2",
    title="The method and its baselines",
    rows=(*BASELINES, ALL, PAPERS_ALL),
    pairs=(*((ALL, baseline) for baseline in BASELINES), *((PAPERS_ALL, baseline) for baseline in PAPERS)),
    anchors=(ALL,),
    about="Baselines learn from the sources of the generator that serves the task. No adapter's training saw a task "
    "that it is judged on, but for what its column “reads” names.",
    of_rows={
        "labelled_lora": "LoRA on the reward labels chooses its rule by the questions that it was trained on; `--table "
        "labels` keeps these apart.",
        "mean": "The mean of other tasks' checkpoints takes those of the paper's tasks, without the one that is "
        "judged, in the place of the generator's sources.",
    },
)
