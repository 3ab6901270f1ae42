"""The processor as this process may use it: how many threads compute, how they wait, and what it is called.

Only the standard library is imported at the top: threads have to be settled before torch is.
"""

import math
import os
import platform
import sys
from pathlib import Path

PROCESSOR_KEYS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
"""Lines of /proc/cpuinfo that tell one kind of processor from another."""

SPINS = "1000"
"""Turns of a waiting thread before it sleeps; the library's default is 300,000."""

SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that keep libraries from instructions which the processor has."""


def prepare_threads() -> None:
    """Have threads that wait go to sleep soon, and no more of them than there are processors for this process.

    Must run before torch is imported. Whatever the user has set stays. A thread that spins holds the core that a
    neighbour needs: beside one busy process two threads of the library's default took 1.6 times as long. Sleeping at
    once costs passes that are shorter than a wake-up; a few microseconds of spinning cost nothing on either side.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # GNU's OpenMP, which torch's wheels carry on Linux
        os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel's and LLVM's
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors()))


def compute_threads() -> int:
    """Return how many threads torch computes with; it is imported only where the environment does not say."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if "torch" not in sys.modules and asked.isdecimal() and int(asked) > 0 and "MKL_NUM_THREADS" not in os.environ:
        return int(asked)
    import torch  # noqa: PLC0415  (seconds to import)

    return torch.get_num_threads()


def usable_processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use: its affinity, less where a control group has a smaller quota.

    Args:
        root: of the file system.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        count = os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """Return the processors' worth of time that each control group around this process grants, version 2 and 1."""
    quotas = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, _, path = line.partition(":")
        controllers, _, path = path.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.lstrip("/")
        for place in (group, *group.parents):
            quotas += _quota(place)
            if place == mount:
                break
    return quotas


def _quota(group: Path) -> list[float]:
    """Return a control group's quota over its period; nothing where it has none."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or the word "max"
        return []


def processor_lines(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return what the system says of the first processor, only what tells one kind from another."""
    entries: dict[str, str] = {}
    try:
        for line in path.read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            if key.strip() in PROCESSOR_KEYS:
                entries[key.strip()] = value.strip()
    except OSError:
        pass
    return entries or {"model name": platform.processor() or platform.machine()}


def processor_name() -> str:
    """Return the processor's name for people."""
    lines = processor_lines()
    return lines.get("model name") or lines.get("CPU part") or platform.machine()


def switched_off() -> dict[str, str]:
    """Return the environment variables that are set to keep libraries from some of the processor's instructions."""
    return {name: os.environ[name] for name in SWITCHES if os.environ.get(name)}
