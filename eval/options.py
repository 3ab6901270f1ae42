"""What the commands ``eval.score``, ``eval.compare`` and ``eval.tables`` take; nothing here computes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cao.configuration import (
    CountOrNone,
    Device,
    Dtype,
    FileGrader,
    FileKeys,
    Machine,
    ModelName,
    ModelPath,
    Offline,
    Pretrained,
    Profile,
    RunsFolder,
)
from cao.options import Option
from cao.policy_settings import PolicySettings
from cao.profile_settings import ProfileSettings
from cao.types import AnswerProtocol, Record


class ScoreOptions(Machine):
    """What ``eval.score`` takes."""

    task: Annotated[str, Field(description="a known task, or your own questions"), Option("NAME|FILE")]
    map: FileKeys = ""
    grader: FileGrader = "auto"
    adapter: Annotated[Path | None, Field(description="a LoRA adapter in PEFT format"), Option("DIR")] = None
    protocol: Annotated[
        AnswerProtocol | None,
        Field(description="how answers are judged"),
        Option(default="likelihood where there are choices"),
    ] = None
    split: Annotated[
        Literal["reward", "test", "all"] | None,
        Field(description="which part"),
        Option(default="test; all for your own file"),
    ] = None
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="a seeded sample of N questions"),
        Option("N", default="all"),
    ] = None
    seed: Annotated[int, Field(description="of that sample"), Option("S")] = 0
    server: Annotated[
        str | None,
        Field(description="let an OpenAI-compatible server answer, http://127.0.0.1:8000/v1 say"),
        Option("URL"),
    ] = None
    server_model: Annotated[
        str | None, Field(description="the name that the server knows the model by"), Option("NAME", default="--model")
    ] = None
    server_adapter: Annotated[
        str | None, Field(description="the name that it knows an adapter of that model by"), Option("NAME")
    ] = None
    server_batch: Annotated[int, Field(ge=1, description="prompts of one request"), Option("N")] = 8
    server_concurrency: Annotated[int, Field(ge=1, description="requests at a time"), Option("N")] = 4


class CompareOptions(Record):
    """What ``eval.compare`` takes."""

    a: Annotated[str, Field(description="what is compared with"), Option("A", positional=True)]
    b: Annotated[str, Field(description="what is judged"), Option("B", positional=True)]
    metric: Annotated[
        str | None,
        Field(description="of a sample log: what says whether an answer is right, acc_norm say"),
        Option("NAME", default="its first"),
    ] = None
    filter: Annotated[
        str | None, Field(description="of a sample log that has several"), Option("NAME", default="the only one")
    ] = None
    out: RunsFolder = "runs"


class TablesOptions(Record):
    """What ``eval.tables`` takes, and what the tables of adapters and of policies are measured with."""

    table: Annotated[
        Literal[
            "2",
            "3",
            "4",
            "5",
            "6",
            "figures",
            "cost",
            "all",
            "verdicts",
            "drift",
            "generation",
            "policies",
            "acceptance",
            "labels",
            "starts",
            "continual",
        ],
        Field(description="what is measured; all: the paper's, 2 to cost; verdicts: judge what lies in --out"),
    ]
    preset: Annotated[
        Literal["quick", "full"], Field(description="2, 5, 6: sizes, where --seeds, --reward and --limit state none")
    ] = "quick"
    protocol: Annotated[
        AnswerProtocol, Field(description="2, 5, 6: rank the choices, or parse what the model writes")
    ] = "likelihood"
    consolidation: Annotated[
        Path | None,
        Field(description="2 to 6, generation: a folder of python -m agent.consolidate"),
        Option("DIR", default="what ships"),
    ] = None
    training: Annotated[
        tuple[Path, ...],
        Field(description="policies: a folder of python -m agent.train_policy, or two, the one to judge last"),
        Option("DIR", default="what ships"),
    ] = ()
    windows: Annotated[int, Field(ge=1, description="drift: windows of a cell"), Option("N")] = 2000
    seed: Annotated[int, Field(ge=0, description="drift, acceptance: of the draws"), Option("S")] = 0
    only: Annotated[
        tuple[str, ...],
        Field(description="drift: measure these again, keep the rest of the page"),
        Option("NAME,...", commas=True),
    ] = ()
    tasks: Annotated[
        tuple[str, ...] | None,
        Field(description="what is measured on"),
        Option(
            "NAME,...",
            commas=True,
            repeats=True,
            default="2, 5, 6, generation: six in-domain, six unseen; policies: all of the training; policies without "
            "one, labels, starts: the eight that agent.train_policy holds out; continual: "
            "arc_easy,boolq,arc_easy,piqa",
        ),
    ] = None
    methods: Annotated[
        tuple[str, ...] | None,
        Field(description="2, 5, 6, generation: rows that are measured, beside what they are held against"),
        Option("NAME,...", commas=True, default="every row of the table"),
    ] = None
    rules: Annotated[
        Literal["equal", "paper"], Field(description="2: an equal budget of tokens, or the papers' own settings")
    ] = "equal"
    split: Annotated[Literal["reward", "test"], Field(description="generation: part of a task")] = "test"
    segment: Annotated[int, Field(ge=32, description="continual: prompts of a task before the next"), Option("N")] = 160
    window: Annotated[
        int,
        Field(ge=8, le=4096, description="continual: prompts behind an alarm, and labelled ones of the last window"),
        Option("N"),
    ] = 64
    reward: Annotated[
        int,
        Field(ge=48, description="reward questions of a task; labels fits on half of them"),
        Option("N"),
    ] = 96
    limit: Annotated[int, Field(ge=1, description="questions of a task, at most"), Option("N")] = 200
    seeds: Annotated[tuple[int, ...], Field(description="choices of support prompts"), Option("S,...", commas=True)] = (
        0,
        1,
        2,
    )
    batches: Annotated[int, Field(ge=1, description="3: of 4 questions, whose gradients are taken"), Option("N")] = 4
    maml_tokens: Annotated[
        CountOrNone,
        Field(description="3, 4: train MAML-en-LLM here on N tokens, in the place of Table 2's; 0: train none"),
        Option("N"),
    ] = 0
    full_cost: Annotated[
        bool, Field(description="generation: time a whole training for the cost, not its first steps")
    ] = False
    out: Annotated[
        Path | None,
        Field(description="folder of the page"),
        Option(
            "DIR",
            default="generation, policies of a training: report/ in its folder; 2 to 6: runs/paper-MODEL; policies,"
            " labels, starts, continual: runs/NAME",
        ),
    ] = None
    workers: Annotated[
        int, Field(ge=1, description="2, 5, 6, generation, policies: processes that share the work"), Option("N")
    ] = 1
    work: Annotated[
        Path | None,
        Field(
            description="2, 5, 6, generation, policies, starts, labels: folder of what is made and answered, from "
            "which a killed command goes on; 3, 4: where Table 2 left its MAML-en-LLM"
        ),
        Option(
            "DIR",
            default="runs/paper-MODEL/work; generation: runs/generation-MODEL, or the folder given; policies, "
            "starts, labels: runs/situations",
        ),
    ] = None
    policy: Annotated[str, Field(description="2, 5, 6: who proposes strategies in stage 3"), Option("NAME")] = "local"
    policy_settings: Annotated[PolicySettings, Field(description="how the policy and the describer work")] = (
        PolicySettings()
    )
    dry_run: Annotated[bool, Field(description="2, 5, 6: print what there is to do and for how long, and end")] = False
    model: ModelName = "smollm2-135m"
    model_path: ModelPath = None
    profile: Profile = ProfileSettings()
    pretrained: Pretrained = None
    device: Device = "cpu"
    dtype: Dtype = "auto"
    offline: Offline = False

    @property
    def folder(self) -> Path:
        """The folder that the table of generated adapters works in: the consolidation's, or one for what ships."""
        name = Path(self.model).name.removesuffix(".gguf")
        return self.consolidation or self.work or Path("runs") / f"generation-{name}"
