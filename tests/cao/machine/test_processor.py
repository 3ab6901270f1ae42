"""Which processors a process may use, how its threads wait, and what the processor is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cao.machine import processor
from cao.machine.processor import processor_lines, processor_name, usable_processors

QUOTA, PERIOD = "cpu/x/cpu.cfs_quota_us", "cpu/x/cpu.cfs_period_us"


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A made-up /proc and /sys."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),  # the outer group's
        ("0::/a\n", {"a/cpu.max": "5000 100000\n"}, 1),  # a twentieth of one still needs one
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, 8),
        (
            "4:cpu,cpuacct:/x\n2:memory:/x\n",
            {QUOTA: "400000", PERIOD: "100000"},
            4,
        ),
        ("4:cpu:/x\n", {QUOTA: "-1", PERIOD: "100000"}, 8),
        ("4:memory:/x\n", {QUOTA: "100000", PERIOD: "100000"}, 8),
    ],
)
def test_a_quota_below_the_affinity_is_what_may_be_used(
    groups: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_processors(system(tmp_path, groups, files)) == expected


def test_the_affinity_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_processors(tmp_path) == 1


def test_threads_are_settled_before_torch_and_what_the_user_set_stays() -> None:
    program = (
        "import os, sys\nfrom cao.command_line import quiet_libraries\nquiet_libraries(offline=True)\n"
        "assert 'torch' not in sys.modules\nimport torch\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), torch.get_num_threads())"
    )
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_NUM", "KMP_", "GOMP_"))
    }

    def said(**given: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env={**clean, **given}, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert said() == f"{processor.SPINS} {usable_processors()}"
    assert said(GOMP_SPINCOUNT="7", OMP_NUM_THREADS="1") == "7 1"
    assert said(OMP_WAIT_POLICY="active", OMP_NUM_THREADS="1") == "None 1"


def test_only_what_tells_kinds_of_processors_apart_is_read(tmp_path: Path) -> None:
    one = "processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t\t: {}\nflags\t\t: avx2\n\nprocessor\t: 1\nflags\t: other\n"
    path = tmp_path / "cpuinfo"
    path.write_text(one.format(1000))
    found = processor_lines(path)
    assert found == {"model name": "Some CPU", "flags": "avx2"}
    path.write_text(one.format(2000))
    assert processor_lines(path) == found
    assert processor_lines(tmp_path / "none")["model name"]
    assert processor_name()


def test_switches_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processor.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert processor.switched_off() == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor.switched_off() == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
