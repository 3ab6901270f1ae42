"""What the doctor looks at first, one function each; none of them changes anything.

Imported at the top is what needs the standard library alone: a check must be able to say that a package is missing.
"""

import os
import re
import shutil
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from cao.machine.extras import EXTRAS, install, missing

OPTIONAL = {
    "llguidance": "without it the local policy's proposals are validated and drawn again",
    "matplotlib": "needed for the pictures of eval.tables",
    "openai": "needed for --policy openai and --describer openai",
}
"""What a default run can do without; all other requirements it imports."""

INSTALL_CORE = "make environment (or: python -m pip install -c constraints.txt -e .)"


ROOT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
DISK_GB = 1.0
MEMORY_GB = 2.0
"""Free space and memory below which a default run is likely to fail."""


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``missing`` keeps a default run from working; ``optional`` does not.
        detail: version, path or reason.
        fix: what to do about it, empty where nothing is to do.
    """

    name: str
    status: Literal["ok", "missing", "optional"]
    detail: str
    fix: str = ""


def requirements(project: Path = ROOT / "pyproject.toml") -> dict[str, str]:
    """Return the packages that the product needs, each with its lowest version.

    Args:
        project: the checkout's own statement, which an earlier installation's may lag behind; absent in an installed
            package, which states them in its metadata.
    """
    if project.exists():
        stated = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        stated = [line for line in metadata.requires("cao-llm") or [] if ";" not in line]  # extras have a condition
    return dict(line.split(">=") for line in stated)


def check_python(version: tuple[int, ...]) -> Check:
    """Judge the interpreter's version."""
    text, enough = ".".join(map(str, version)), version[:2] >= PYTHON
    wanted = ".".join(map(str, PYTHON))
    return Check("python", "ok" if enough else "missing", text, "" if enough else f"install Python {wanted} or newer")


def check_package(name: str, lowest: str, version: str | None) -> Check:
    """Judge a package that a default run needs.

    Args:
        name: the distribution's name.
        lowest: the lowest version that works.
        version: what is installed, None where it is not.
    """
    if version is None:
        return Check(name, "missing", "not installed", INSTALL_CORE)
    if _numbers(version) < _numbers(lowest):
        return Check(name, "missing", f"{version}, {lowest} or newer is needed", INSTALL_CORE)
    return Check(name, "ok", version)


def check_optional(name: str, lowest: str, use: str, version: str | None) -> Check:
    """Judge a package that a default run can do without."""
    row = check_package(name, lowest, version)
    return row if row.status == "ok" else Check(name, "optional", f"{row.detail}; {use}", INSTALL_CORE)


def check_extras() -> list[Check]:
    """Say which of the extras are installed, and what the others are for."""
    return [
        Check(name, "optional", f"{module} is not installed; needed for {extra.purpose}", install(name))
        if (module := missing(name))
        else Check(name, "ok", extra.purpose)
        for name, extra in EXTRAS.items()
    ]


def check_key() -> Check:
    """Say whether the key for the OpenAI policy is set; its value is never shown."""
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return Check("OPENAI_API_KEY", "ok", "set")
    return Check("OPENAI_API_KEY", "optional", "not set; needed for --policy openai only", "export OPENAI_API_KEY=…")


def check_room() -> list[Check]:
    """Judge free disk space and memory."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    rows = [
        Check("disk", "ok", f"{free:.1f} GB free here")
        if free >= DISK_GB
        else Check(
            "disk",
            "missing",
            f"{free:.1f} GB free here, {DISK_GB:.0f} GB is needed",
            "make room, or use --out DIR elsewhere",
        )
    ]
    try:
        import psutil  # noqa: PLC0415  (may be missing, which its own row says)
    except ImportError:
        return rows  # its own row says so
    memory = psutil.virtual_memory().available / 1e9
    if memory >= MEMORY_GB:
        return [*rows, Check("memory", "ok", f"{memory:.1f} GB available")]
    return [
        *rows,
        Check(
            "memory",
            "missing",
            f"{memory:.1f} GB available, a run takes {MEMORY_GB:.0f} GB",
            "close other programs",
        ),
    ]


def installed(name: str) -> str | None:
    """Return the version of a distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
