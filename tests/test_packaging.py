"""What an installation holds: every file that the code finds by path, and the same answers from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("agent", "cao", "eval", "policies", "prompts", "pretrained", "tools")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages as ``pip install .`` fills it, by the same build."""
    place = tmp_path_factory.mktemp("installed")
    (place / "about").mkdir()
    code = "import setuptools; setuptools.setup()"
    words = ["-q", "egg_info", "--egg-base", str(place / "about"), "build_py", "--build-lib", str(place / "lib")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "lib"


def python(installed: Path, cwd: Path, code: str) -> str:
    """What a program prints that has the installation and the libraries, and is started elsewhere."""
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *libraries])}
    words = [sys.executable, "-S", "-c", code]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_file_of_the_packages_is_installed(installed: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for top in TOPS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert wanted - found == set()
    assert {name.split("/")[0] for name in found} == set(TOPS)


def test_what_is_found_by_path_is_found_in_an_installation(installed: Path, tmp_path: Path) -> None:
    told = python(
        installed,
        tmp_path,
        "import agent, cao.configuration, cao.model.profiles\n"
        "shipped = cao.configuration.SHIPPED\n"
        "print(agent.__file__, (shipped / 'index.json').is_file(), len([*shipped.glob('references/*.safetensors')]),\n"
        "  'smollm2-135m' in cao.model.profiles.MODELS)",
    )
    assert told == f"{installed / 'agent' / '__init__.py'} True 6 True"


@pytest.mark.slow
def test_an_installation_works_from_any_folder(installed: Path, tmp_path: Path) -> None:
    told = python(
        installed,
        tmp_path,
        "from cao import detect\n"
        "prompts = [f'Tom has {n} apples and eats 2. How many are left?' for n in range(12)]\n"
        "(report,) = detect(prompts, permutations=99)\n"
        "print(report.n, sorted(report.known))",
    )
    assert told == "12 ['arc_challenge', 'arc_easy', 'boolq', 'hellaswag', 'piqa', 'winogrande']"
    assert list(tmp_path.iterdir()) == []
