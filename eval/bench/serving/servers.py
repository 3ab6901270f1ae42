"""Servers for the load test: the real command in processes of their own, and a model that a swap leads to."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from agent.handover.settings import CAO_FILE, Handed
from cao.errors import UnavailableError
from cao.files import write_atomic
from cao.model.adapters import save_adapter
from cao.model.loading import load_model
from eval.bench.options import ServingBench

USUAL, OTHER = "piqa", "arc_easy"
"""Whose prompts are expected, and to which they drift; what is served for the second is swapped in then."""


@dataclass(frozen=True)
class Server:
    """A server at work.

    Attributes:
        url: its address.
        process: it.
    """

    url: str
    process: "subprocess.Popen[str]"

    def cpu_seconds(self) -> float:
        """Return the processor's time that it has taken, seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def server(options: ServingBench, folder: Path, *words: str) -> Iterator[Server]:
    """Start a server, and end it behind the block.

    Args:
        options: which model, on what.
        folder: of its state.
        words: further options of it.

    Raises:
        UnavailableError: it did not begin to serve.
    """
    told = options.model_dump(include={"model", "model_path", "device", "dtype"})
    command = [sys.executable, "-m", "agent.serve", "--port", "0", "--json", "--out", str(folder), *words]
    command += [f"--set={key}={json.dumps(value)}" for key, value in told.items() if value is not None]
    command += ["--queue", str(8 * options.clients), *(["--offline"] if options.offline else [])]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH"))))
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            assert process.stdout is not None, "it was asked for"
            line = process.stdout.readline()
            if not line:
                raise UnavailableError(f"the server did not begin: {Path(log.name).read_text()[-300:]}")
            yield Server(json.loads(line)["url"], process)
        finally:
            process.terminate()
            process.communicate()


def watched_words(adopted: Path) -> Sequence[str]:
    """Return the options of a server that watches, and swaps a model in when prompts drift."""
    return ("--watch", "--reference", USUAL, "--adopted", f"{OTHER}={adopted}")


def made_up(options: ServingBench, folder: Path) -> Path:
    """Return an exported folder of a model with a random adapter: what it answers is of no interest."""
    lm = load_model(options)
    weights = lm.fresh_lora(0)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in weights.tensors.items():
        if ".lora_B." in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 1e-3)
    made = save_adapter(folder, weights, lm.source or "none")
    handed = Handed(
        run_id="made-up",
        task=OTHER,
        base_model=lm.profile.name,
        base_sha256=lm.sha256,
        protocol="likelihood",
        members=(".",),
    )
    write_atomic(Path(made.path) / CAO_FILE, handed.text())
    return Path(made.path)
