"""Stages 1 and 2 at the tiny model's size, and the same command as a slow process that can be killed.

``SLOW=LABEL python -m tests.agent.train.generator.tiny_consolidation …`` is ``python -m agent.consolidate …``, but it
rests after each step of the work whose label begins so, and every training writes its checkpoint after each step.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from agent.train.clock import Clock
from agent.train.generator.run import Job, do
from agent.train.generator.steps import Consolidation
from tests.agent.tiny_pretrained import MODEL, ROOT
from tests.agent.train.engine.engine_jobs import Desk
from tools.align_lora.training import train_aligner
from tools.generate_lora.checkpoints import collect
from tools.generate_lora.training import train_generator

SOURCES = ("arc_easy", "openbookqa")
LEFT_OUT = "openbookqa"
FOLDER = f"consolidate-{MODEL}-embedded-s0"
SIZES = {
    "sources": '["arc_easy","openbookqa"]',
    "leave_out": '["openbookqa","piqa"]',  # the latter is no source: there is nothing to leave out
    "ladder.shapes": "[[4,384,384],[4,8,16],[16,16,32]]",
    "token": "[16,32]",
    "checkpoints.warm_steps": "3",
    "checkpoints.kept_steps": "5",
    "checkpoints.warm_rate": "1e-3",
    "checkpoints.batch": "2",
    "checkpoints.samples": "40",
    "generator.steps": "10",
    "generator.tasks": "2",
    "generator.batch": "2",
    "generator.behaviour_from": "5",
    "aligner.widths": "[2,4]",
    "aligner.latent": "4",
    "aligner.projected": "8",
    "aligner.code": "4",
    "aligner.meta_epochs": "20",
    "aligner.vector_prompts": "2",
    "row_tokens": "64",
    "prompts_encoded": "8",
    "pairs": "2",
}
REST_S = 0.1
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own processes, which do no work and leave a minute after the others."""


def command(model: Path, out: Path, *more: str) -> list[str]:
    """The command's arguments; what is in ``more`` comes last and wins."""
    sizes = [part for key, value in SIZES.items() for part in ("--set", f"{key}={value}")]
    return [
        *("--model", MODEL, "--preset", "embedded", "--offline", "--out", str(out)),
        *("--set", f"model_path={model}", *sizes, *more),
    ]


def killed(argv: list[str], awaited: Path, slow: str, meanwhile: Callable[[], None] = lambda: None) -> int:
    """Run the command in another process and kill it, without warning, once a file is there.

    Args:
        argv: the command's arguments.
        awaited: the file.
        slow: the label of the work that is given time to be killed in.
        meanwhile: called while the process runs.

    Returns:
        Its exit status; no process that it started is left behind.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KMP_BLOCKTIME": "0", "SLOW": slow}
    program = [sys.executable, "-m", "tests.agent.train.generator.tiny_consolidation"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*program, *argv], cwd=ROOT, env=environment, **quiet)
    workers: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and not awaited.exists():
            assert time.monotonic() < deadline, f"{awaited} never came"
            time.sleep(0.005)
        if process.poll() is None:
            found = psutil.Process(process.pid).children(recursive=True)
            workers = [child for child in found if not child.name().startswith(RAYS_AGENTS)]
            meanwhile()
    finally:
        process.kill()
        status = process.wait()
        deadline = time.monotonic() + 20
        while any(_alive(worker) for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = [worker for worker in workers if _alive(worker)]
        for worker in left:
            worker.kill()
    assert not left, "workers went on without their parent"
    return status


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@cache
def _slow_down() -> None:
    """Change this process: checkpoints at every step, and a rest after each step of the chosen work."""
    for train in (collect, train_generator, train_aligner):
        assert train.__kwdefaults__ is not None
        train.__kwdefaults__["checkpoint_every_s"] = 0.0
    tell = Clock.progress

    def rest(self: Clock, label: str, done: int, total: int) -> None:
        tell(self, label, done, total)
        if label.startswith(os.environ["SLOW"]):
            time.sleep(REST_S)

    Clock.progress = rest  # type: ignore[method-assign]


def slow_do(consolidation: Consolidation, job: Job) -> float:
    """Do a consolidation's job slowly, as ``SLOW`` says, and write down beside its folder that it began."""
    _slow_down()
    Desk(consolidation.folder.parent / "begun", consolidation.progress).note("job", "-".join(job))
    return do(consolidation, job)


if __name__ in ("__main__", "__mp_main__"):  # the latter in its workers
    _slow_down()
if __name__ == "__main__":
    from agent.consolidate import main

    sys.exit(main(sys.argv[1:]))
