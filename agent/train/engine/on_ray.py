"""The engine ``ray``: jobs on Ray's actors, on this machine or on a cluster; scheduling and retries are Ray's own.

A worker is an actor that sets itself up once. One that dies is started again by Ray, which gives it the one call that
was lost; what the others do goes on. The work is put into Ray's object store once and read from there.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import RETRIES, J, R, Run, S, Work, WorkerDiedError, begin
from cao.errors import CaoError, InputError, UnavailableError
from cao.machine.extras import need
from cao.progress import Progress

CONNECT_S, HEALTH_S = 3.0, 11.0
"""Seconds for a connection to the address, and for Ray there to say that it is well."""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""No telemetry; progress as it comes; no warning about future versions."""

CARRIED = (
    *("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY"),
    *("TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "KMP_BLOCKTIME"),
)
"""Variables that a worker's process starts with, since libraries read them when imported; none of them is a secret."""


def check(settings: EngineSettings) -> None:
    """Refuse what cannot work, within seconds; Ray's own attempts to connect take minutes.

    Raises:
        UnavailableError: Ray is not installed, nothing answers at the address, or it wants a token.
    """
    need("cluster")
    if settings.address:
        check_answers(settings.address)


@cache
def check_answers(address: str) -> None:
    """Check that a cluster answers at an address; asked once a process.

    Raises:
        UnavailableError: nothing answers there, or the cluster wants its token.
    """
    host, _, port = address.rpartition(":")
    asked = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        answer = subprocess.run(asked, env={**os.environ, **QUIET}, capture_output=True, timeout=HEALTH_S, check=False)
        well, closed = answer.returncode == 0, b"AuthenticationError" in answer.stderr
    except (OSError, OverflowError, subprocess.TimeoutExpired):
        well = closed = False
    if closed:
        raise UnavailableError(
            f"the Ray cluster at {address} wants its token; put it where Ray looks (~/.ray/auth_token), "
            "and run: export RAY_AUTH_MODE=token"
        )
    if not well:
        raise UnavailableError(
            f"no Ray cluster answers at {address}; start one there with: ray start --head --port {port}, "
            "or leave engine.address out to start Ray on this machine"
        )


@contextmanager
def workers(
    settings: EngineSettings, count: int, work: Work[S, J, R], progress: Progress, here: S | None
) -> Iterator[Run[J, R]]:
    """Yield what does jobs; ``agent.train.engine.engines.open_engine`` says more."""
    # Ray prints what it and its workers say; standard output is for the command's result
    with redirect_stdout(sys.stderr), _connected(settings, count, work) as run:
        yield run


@contextmanager
def _connected(settings: EngineSettings, count: int, work: Work[S, J, R]) -> Iterator[Run[J, R]]:
    os.environ.update(QUIET)
    import ray  # noqa: PLC0415  (an extra)

    share = 1 if settings.address else max(1, torch.get_num_threads() // count)
    cpus = settings.cpus or share
    try:
        _connect(ray, settings, count, cpus)
        carried = {name: os.environ[name] for name in CARRIED if name in os.environ}
        actor = ray.remote(_Worker).options(
            num_cpus=cpus,
            num_gpus=settings.gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
            runtime_env={"env_vars": carried},
        )
        shared = [ray.put(work)]  # in a list, so that it is fetched once and not with every call
        actors = [actor.remote(cpus, Path.cwd()) for _ in range(count)]

        def run(jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
            waiting, idle, dead, at = deque(jobs), list(range(count)), list[J](), dict[object, tuple[int, J]]()
            while waiting or at:
                while waiting and idle:
                    worker, job = idle.pop(), waiting.popleft()
                    at[actors[worker].do.remote(shared, job)] = worker, job
                [done], _ = ray.wait(list(at))
                worker, job = at.pop(done)
                idle.append(worker)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise _ours(error) from None
                except ray.exceptions.RayError:  # its workers died, however often Ray began anew
                    dead.append(job)
                    continue
                yield job, result
            if dead:
                raise WorkerDiedError(dead)

        yield run
    finally:
        ray.shutdown()  # what workers were at goes on from its last checkpoint


def _connect(ray: ModuleType, settings: EngineSettings, count: int, cpus: int) -> None:
    quiet = {"log_to_driver": True, "logging_level": "ERROR"}
    where = settings.address or "this machine"
    try:
        if settings.address:
            ray.init(address=settings.address, **quiet)
        else:  # "local": RAY_ADDRESS in the environment must not decide anything
            ray.init(address="local", num_cpus=count * cpus, include_dashboard=False, **quiet)
    except Exception as error:  # noqa: BLE001  (Ray raises the bare class where a node does not start in time)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(f"Ray on {where} cannot be used: {first}") from None
    have = ray.cluster_resources()
    for kind, wanted in (("CPU", count * cpus), ("GPU", count * settings.gpus)):
        if have.get(kind, 0) < wanted:
            shortage = f"{count} workers need {kind} {wanted:g}, Ray on {where} has {have.get(kind, 0):g}"
            raise InputError(f"{shortage}; give fewer --workers")


def _ours(error: Exception) -> Exception:
    """Return what a failed call raised: one of our errors as itself, a defect with its traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, CaoError) else error


class _Worker:
    """One worker, in a process of its own."""

    def __init__(self, threads: int, folder: Path) -> None:
        self._threads, self._folder = threads, folder
        self._held: list[tuple[Work[object, object, object], object]] = []

    def do(self, shared: list[object], job: object) -> object:
        """Do one job of the shared work and return its result."""
        if not self._held:  # here, not above: what fails in a call comes back as itself
            import ray  # noqa: PLC0415  (an extra)

            given: Work[object, object, object] = ray.get(shared[0])
            self._held.append((given, begin(given, self._threads, self._folder)))
        work, state = self._held[0]
        return work.do(state, job)
