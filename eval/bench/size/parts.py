"""The parts of ``size``: what a person types, and one step of each training phase, for a model in a folder.

Each is called in a process of its own and does all of its loading itself.
"""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import agent.generate
import agent.run
import eval.score
import policies.propose
from agent.train.generator.effort import Efforts
from agent.train.generator.index import write_index
from agent.train.generator.run import Job, do, open_consolidation, stages
from cao.errors import InputError
from cao.files import write_json
from cao.inference.generation import generate
from cao.inference.scoring import score_queries
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.memory import BYTES
from cao.progress import Progress
from cao.tasks import get_task
from cao.types import Dtype, LatentSettings, Query, Record
from eval.bench.size.configurations import Size, model_arguments, settings_of, write_model
from eval.questions import drawn
from tools.apply_strategy.latent import moving

SLOT = LatentSettings(slot_steps=5, slot_lr=0.1)
TTL = {"family": "TTL", "ttl_steps": 5, "learning_rate": 1e-5, "batch_size": 4, "shuffle_data": True}
NEW_TOKENS, PROPOSALS = 16, 2
LOGITS = 1.2e9
"""Bytes of blocks over the vocabulary: logits, and the probabilities that Latent keeps."""


class Order(Record):
    """What a part works with.

    Attributes:
        size: of the model.
        folder: the model's; what is trained lies beside it.
        dtype: of the language model.
        questions: that are asked.
    """

    size: Size
    folder: Path
    dtype: Dtype
    questions: int

    @property
    def common(self) -> list[str]:
        """Options that every command takes."""
        return [*model_arguments(self.size, self.folder), "--dtype", self.dtype, "--offline", "--json"]


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: on the command line.
        what: it does, in a few words.
        do: does it; what it returns is said of it.
        needs: parts that go before.
        bytes: what it takes beside the libraries, as far as that is known.
    """

    name: str
    what: str
    do: Callable[[Order, Progress], str]
    needs: tuple[str, ...]
    bytes: Callable[[Order, int], float]


def _loaded(order: Order) -> LanguageModel:
    return load_language_model(
        settings_of(order.size, order.folder, order.dtype).base,
        path=str(order.folder),
        dtype=order.dtype,
        offline=True,
    )


def _queries(order: Order, lm: LanguageModel) -> list[Query]:
    task = get_task(order.size.task)
    return [task.query(each, lm.profile.answer_style) for each in drawn(order.size.task, order.questions, "reward")]


def _command(main: Callable[[list[str]], int], argv: list[str]) -> str:
    """Call a command and return what it printed.

    Raises:
        InputError: it ended with another exit status than 0; what it said follows.
    """
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        status = main(argv)
    if status:
        last = [line for line in said.getvalue().splitlines() if line.strip()]
        raise InputError(f"exit status {status}: {last[-1] if last else 'nothing was said'}")
    return out.getvalue()


def _weights(order: Order, progress: Progress) -> str:
    write_model(order.size, order.folder)
    return f"{order.size.parameters:,} seeded random weights in bfloat16"


def _load(order: Order, progress: Progress) -> str:
    lm = _loaded(order)
    return f"in {lm.dtype}, answers by {lm.profile.answer_style}"


def _score(order: Order, progress: Progress) -> str:
    argv = ["--task", order.size.task, "--split", "reward", "--limit", str(order.questions), *order.common]
    return f"{json.loads(_command(eval.score.main, argv))['n']} questions"


def _latent(order: Order, progress: Progress) -> str:
    lm = _loaded(order)
    queries = _queries(order, lm)
    scored = score_queries(lm, queries, move=moving(SLOT), progress=progress)
    return f"{len(scored)} questions, {SLOT.slot_steps} steps each"


def _write(order: Order, progress: Progress) -> str:
    lm = _loaded(order)
    prompts = [query.prefix for query in _queries(order, lm)]
    made = generate(lm, prompts, max_new_tokens=NEW_TOKENS, progress=progress)
    return f"{len(made)} answers, {sum(each.tokens for each in made)} tokens"


def _propose(order: Order, progress: Progress) -> str:
    context = order.folder.parent / "context.txt"
    context.write_text("Grade-school science questions with four choices.\n", encoding="utf-8")
    argv = ["--context", str(context), "--policy", "local", "--n", str(PROPOSALS), *order.common]
    lines = _command(policies.propose.main, argv).splitlines()
    return f"{sum(json.loads(line)['valid'] for line in lines)} of {len(lines)} proposals valid"


def _run(order: Order, progress: Progress) -> str:
    strategies = order.folder.parent / "strategies.json"
    write_json(strategies, [{"family": "Latent", **SLOT.model_dump()}, TTL])
    questions = str(order.questions)
    argv = ["--task", order.size.task, "--support", "8", "--reward", questions, "--test", questions, *order.common]
    argv += ["--policy", "fixed", "--set", f"policy_settings.strategy_file={strategies}", "--max-attempts", "2"]
    argv += ["--until", "budget", "--out", str(order.folder.parent / "runs")]
    record = json.loads(_command(agent.run.main, argv))
    tried = ", ".join(trial["strategy"]["family"] for trial in record["trials"] if trial.get("strategy"))
    slowest = sorted(record["timing_s"].items(), key=lambda each: -each[1])[:3]
    where = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slowest)
    return f"{questions} reward questions, attempts: {tried}; {record['status']}; {where}"


def _phase(kind: str) -> Callable[[Order, Progress], str]:
    def step(order: Order, progress: Progress) -> str:
        settings = settings_of(order.size, order.folder, order.dtype)
        settings.folder.mkdir(parents=True, exist_ok=True)
        if not (settings.folder / "config.json").exists():
            write_json(settings.folder / "config.json", settings.claim())
        jobs = _jobs(order, kind)
        consolidation = open_consolidation(settings, progress)
        for done, job in enumerate(jobs, 1):
            do(consolidation, job)
            progress(kind, done, len(jobs))
        return f"one step each of {len(jobs)} jobs" if len(jobs) > 1 else "one step"

    return step


def _jobs(order: Order, kind: str) -> list[Job]:
    preset = settings_of(order.size, order.folder, order.dtype).resolved()
    return [job for stage in stages(preset) for job in stage if job[0] == kind]


def _generate(order: Order, progress: Progress) -> str:
    settings = settings_of(order.size, order.folder, order.dtype)
    write_index(settings, settings.folder)
    prompts, out = order.folder.parent / "prompts.jsonl", order.folder.parent / "adapter"
    texts = [each.prompt for each in drawn(order.size.task, order.questions, "support")]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    argv = ["--prompts", str(prompts), "--out", str(out), "--overwrite", "--pretrained", str(settings.folder)]
    made = json.loads(_command(agent.generate.main, [*argv, *order.common]))
    return f"an adapter from {made['n']} prompts, {'aligned' if made['aligned'] else 'not aligned'}"


def _nothing(order: Order, parameters: int) -> float:
    return 0.0


def _stored(order: Order, parameters: int) -> float:
    return 2.0 * parameters


def _model(order: Order, parameters: int) -> float:
    return BYTES[order.dtype] * parameters + LOGITS


def _trains(kind: str) -> Callable[[Order, int], float]:
    def needed(order: Order, parameters: int) -> float:
        settings = settings_of(order.size, order.folder, order.dtype)
        preset, weights = settings.resolved(), float(BYTES[order.dtype] * parameters)
        efforts = Efforts(preset, settings.base, preset.row_tokens, BYTES[order.dtype])
        return weights + max(efforts.of(job).memory for job in _jobs(order, kind))

    return needed


def _both(order: Order, parameters: int) -> float:
    return _model(order, parameters) + _trains("aligner")(order, parameters)


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("weights", "write the model", _weights, (), _stored),
        Part("load", "load it", _load, ("weights",), _model),
        Part("score", "eval.score", _score, ("weights",), _model),
        Part("latent", "score under Latent", _latent, ("weights",), _model),
        Part("write", "write answers", _write, ("weights",), _model),
        Part("propose", "policies.propose", _propose, ("weights",), _model),
        Part("run", "agent.run", _run, ("weights",), _model),
        Part("states", "encode prompts", _phase("states"), ("weights",), _nothing),
        Part("checkpoints", "checkpoints", _phase("checkpoints"), ("weights",), _trains("checkpoints")),
        Part("union", "one adapter for all sources", _phase("union"), ("weights",), _trains("union")),
        Part(
            "generator",
            "generator",
            _phase("generator"),
            ("weights", "states", "checkpoints", "union"),
            _trains("generator"),
        ),
        Part(
            "aligner",
            "aligner",
            _phase("aligner"),
            ("weights", "states", "checkpoints", "union", "generator"),
            _trains("aligner"),
        ),
        Part(
            "generate",
            "agent.generate",
            _generate,
            ("weights", "states", "checkpoints", "union", "generator", "aligner"),
            _both,
        ),
    )
}
"""Name → part, in the order in which they are done."""
