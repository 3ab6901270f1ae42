"""Options made from settings: the same words everywhere, one file for every command, and --help at once."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from agent.config import RunConfig, make_config, settings_of
from agent.stages.options import DriftOptions, GenerateOptions
from agent.stream.options import WatchOptions
from agent.train.engine.settings import read_engine
from agent.train.generator.options import ConsolidateOptions
from agent.train.policy.options import TrainPolicyOptions
from cao.configuration import TABLES, Machine, read_settings
from cao.console import VERBS
from cao.errors import InputError
from cao.options import SET, Option, add_common, add_options, command_parser, given
from eval.options import ScoreOptions, TablesOptions
from policies.propose import ProposeOptions, understand

ROOT = Path(__file__).parents[2]
SHARED = ("--model-path", "--device", "--dtype", "--offline", "--pretrained", "--config", "--json", "--debug")
FILE = """
seed = 3
reward = 12
device = "cuda"
model = "qwen2.5-0.5b"
[policy_settings]
top_k = 7
[engine]
kind = "ray"
cpus = 2
[consolidate]
preset = "embedded"
sources = ["piqa"]
generator = { steps = 5 }
[train_policy]
epochs = 9
[drift]
alpha = 0.01
[generate]
variant = "full"
[watch]
window = 16
[score]
limit = 5
[tables]
windows = 6
[propose]
n = 3
"""


class Settings(Machine):
    """A command's settings, with one field of each kind."""

    source: Annotated[str, Field(description="where ``it`` is, 5 % of it"), Option("FILE")]
    mode: Annotated[Literal["a", "b"], Field(description="how")] = "a"
    count: Annotated[Annotated[int, Field(ge=1)] | None, Field(description="how many"), Option("N")] = None
    names: Annotated[tuple[str, ...], Field(description="which"), Option("NAME,...", commas=True)] = ("x", "y")
    paths: Annotated[tuple[Path, ...], Field(description="files"), Option("FILE", others=("--files",))] = ()
    loud: Annotated[bool, Field(description="say more")] = False


def understood(*words: str) -> Settings:
    p = argparse.ArgumentParser()
    add_options(p, Settings)
    add_common(p, config=True, settable=SET)
    return read_settings(Settings, p.parse_args(["--source", "s", *words]), "score")


def test_a_field_is_an_option_and_what_is_not_given_is_the_default() -> None:
    assert understood() == Settings(source="s")
    found = understood("--mode", "b", "--count", "3", "--names", "p,q", "--files", "a", "b", "--paths", "c", "--loud")
    assert (found.mode, found.count, found.names, found.loud) == ("b", 3, ("p", "q"), True)
    assert found.paths == (Path("a"), Path("b"), Path("c"))
    assert understood("--set", "count=3", "--set", "model_path=here", "--device", "cuda:1") == Settings(
        source="s", count=3, model_path="here", device="cuda:1"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--count", "0"), "--count 0: Input should be greater than or equal to 1"),
        (("--device", "tpu"), "--device tpu: unknown device 'tpu'; known: cpu, cuda, cuda:N, mps"),
        (("--set", "count=0"), "--set count: Input should be greater than or equal to 1"),
        (
            ("--set", "cuont=1"),
            "--set cuont: unknown key; known: model, model_path, profile, device, dtype, offline, source, mode, count",
        ),
        (("--set", "count"), "write it as key=value"),
    ],
)
def test_what_cannot_be_is_named_as_it_was_given(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        understood(*words)


@pytest.mark.parametrize("words", [("--mode", "c"), ("--count", "x"), ("--names", "p,p"), ("--nothing",)])
def test_what_is_no_value_of_its_type_is_argparses_to_refuse(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        understood(*words)
    assert ended.value.code == 2


def test_the_help_has_the_fields_words_without_markup_and_the_default() -> None:
    p = command_parser("agent.run", "``python -m agent.run``: do ``it``.\n\nMore.")
    add_options(p, Settings)
    shown = " ".join(p.format_help().split())
    for words in ("Do it.", "where it is, 5 % of it", "how many", "which (default x,y)", "how (default a)"):
        assert words in shown
    assert given(p.parse_args(["--source", "s"]), Settings) == {"source": "s"}


def parsers(p: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [each for a in p._subparsers._group_actions for each in a.choices.values()] if p._subparsers else []  # type: ignore[union-attr]
    return below or [p]


def test_shared_options_have_the_same_words_in_every_command() -> None:
    words: dict[str, set[str]] = {}
    for module, _ in VERBS.values():
        for p in parsers(importlib.import_module(module).parser()):
            shown = p.format_help()
            assert "``" not in shown, p.prog
            for name in SHARED:
                for found in re.findall(rf"^  {name}\b.*(?:\n {{10,}}.*)*", shown, re.MULTILINE):
                    words.setdefault(name, set()).add(" ".join(found.split()))
    assert {name: len(words[name]) for name in SHARED} == dict.fromkeys(SHARED, 1), words


@pytest.mark.parametrize("module", [module for module, _ in VERBS.values()])
def test_help_imports_nothing_that_takes_seconds(module: str) -> None:
    code = (
        f"import sys, {module} as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'langgraph', 'scipy', 'datasets'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("agent.drift", ["--windows", "no.jsonl"]),
        ("agent.generate", ["--out", "no", "--prompts", "no.jsonl"]),
        ("agent.watch", ["--stream", "no.jsonl"]),
        ("agent.trace", ["show", "no", "--out", "no"]),
        ("agent.trace", ["graph", "no", "--out", "no"]),
        ("agent.reference", ["list", "--set", "no=1"]),
        ("eval.score", ["--task", "no.jsonl"]),
        ("eval.score", ["--task", "gsm8k", "--limit", "0"]),
        ("eval.tables", ["--table", "policies", "--tasks", "gsm8k,gsm8k"]),
        ("eval.tables", ["--table", "generation", "--tasks", "no"]),
        ("eval.bench.command", ["run", "--repetitions", "0"]),
    ],
)
def test_mistakes_are_told_without_torch(module: str, words: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys, {module} as command\nstatus = command.main({words})\nsys.exit('torch' in sys.modules or status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ")


def test_the_doctor_needs_the_standard_library_alone() -> None:
    code = "import sys, agent.doctor as d; d.parser(); sys.exit('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "all.toml"
    path.write_text(FILE)
    return path


def read(module: str, file: Path, *words: str) -> argparse.Namespace:
    parser: argparse.ArgumentParser = importlib.import_module(module).parser()
    return parser.parse_args([*words, "--config", str(file)])


def test_a_name_that_is_no_text_is_told_in_words() -> None:
    with pytest.raises(InputError, match="task: it is not valid UTF-8; where it is a file, rename it"):
        make_config(None, {"task": "a\udcff.csv"}, [])


def test_one_file_serves_every_command_and_each_reads_its_own(file: Path) -> None:
    config = make_config(file, {"task": "gsm8k"}, [])
    assert (config.seed, config.reward, config.policy_settings.top_k) == (3, 12, 7)
    assert (read_engine(file).kind, read_engine(file).cpus) == ("ray", 2)
    consolidation = settings_of(ConsolidateOptions, read("agent.consolidate", file, "--seed", "1"), "consolidate")
    assert (consolidation.model, consolidation.device, consolidation.seed) == ("qwen2.5-0.5b", "cuda", 1)
    assert (consolidation.preset, consolidation.sources) == ("embedded", ("piqa",))
    assert consolidation.values == {"generator": {"steps": 5}}
    arguments = read("agent.train_policy", file)
    assert settings_of(TrainPolicyOptions, arguments, "train_policy", settable=False).epochs == 9
    assert settings_of(DriftOptions, read("agent.drift", file, "--windows", "w"), "drift").alpha == 0.01
    generated = settings_of(GenerateOptions, read("agent.generate", file, "--prompts", "p", "--out", "o"), "generate")
    assert (generated.variant, generated.device) == ("full", "cuda")
    watched = settings_of(WatchOptions, read("agent.watch", file, "--stream", "-"), "watch")
    assert (watched.window, watched.device) == (16, "cuda")
    assert settings_of(ScoreOptions, read("eval.score", file, "--task", "t"), "score").limit == 5
    assert settings_of(TablesOptions, read("eval.tables", file, "--table", "drift"), "tables").windows == 6
    options, settings = understand(read("policies.propose", file, "--context", "c"))
    assert isinstance(options, ProposeOptions)
    assert (options.n, settings.top_k) == (3, 7)


def test_the_command_line_wins_over_the_file_and_set_over_both(file: Path) -> None:
    words = ("--windows", "w", "--alpha", "0.2", "--device", "cpu")
    found = settings_of(DriftOptions, read("agent.drift", file, *words, "--set", "alpha=0.3"), "drift")
    assert (found.alpha, found.device) == (0.3, "cpu")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("colour = 1", "colour: unknown key"),
        ("[colour]", "colour: unknown key"),
        ("drift = 3", "drift: write it as a table, [drift]"),
        ("[drift]\nalhpa = 0.1", "alhpa: unknown key"),
        ("[drift]\nalpha = 2", "alpha: Input should be less than 1"),
    ],
)
def test_a_command_refuses_what_is_unknown_in_its_own_part_of_the_file(line: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(line)
    with pytest.raises(InputError, match=re.escape(f"{path}: {told}")):
        settings_of(DriftOptions, read("agent.drift", path, "--windows", "w"), "drift")


def test_another_commands_table_is_passed_over_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("".join(f"[{name}]\nsome_key = 1\n" for name in TABLES if name != "drift"))
    assert settings_of(DriftOptions, read("agent.drift", path, "--windows", "w"), "drift") == DriftOptions(
        windows=Path("w")
    )
    assert make_config(path, {"task": "gsm8k"}, []) == RunConfig(task="gsm8k")
