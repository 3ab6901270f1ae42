"""Bit flips and truncations in what trainings keep, and in trained parts: named or made again, none silently used."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import consolidate, generate
from tests.agent.train.generator.finished import Finished, call, content
from tests.agent.train.generator.tiny_consolidation import command
from tests.agent.train.policy.test_train_policy import arguments as training
from tests.agent.train.policy.tiny_policy_training import train
from tests.survival.conftest import Whole
from tests.survival.damage import damage, ended, found
from tests.survival.records import kept_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("only_long")]

Tell = Callable[[str], None]
Many = Callable[[int, int], int]


def test_a_consolidation_ends_in_the_same_bytes_or_the_damage_is_named(
    tiny_model_folder: Path, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    made = Finished(call(command(tiny_model_folder, tmp_path / "whole")), tmp_path / "whole", tiny_model_folder)
    seen, before = Counter[str](), content(made.folder)
    for n in range(many(2, 20)):
        folder = made.copy(tmp_path / str(n), "variants/without-*")
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        what = damage(path, draw)
        one = ended(consolidate.main, command(tiny_model_folder, tmp_path / str(n)))
        if one.status == 0:
            after = content(folder)
            changed = {name for name in after if after[name] != before.get(name)}
            assert changed <= {str(path.relative_to(folder))}, what  # at most the file that nothing had to read
        else:
            assert found(one, str(folder)), (what, one.err)
        seen["found" if one.status else "harmless"] += 1
        shutil.rmtree(tmp_path / str(n))
    figure(f"damage to consolidations: {dict(seen)}, none silently used")


def test_a_training_of_the_policy_learns_the_same_or_the_damage_is_named(
    roomy_model_folder: Path, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    whole = tmp_path / "whole"
    assert ended(train, training(roomy_model_folder, whole)).status == 0
    weights = "policy-*/policy-*/adapter_model.safetensors"
    before = {path.parent.name: path.read_bytes() for path in whole.glob(weights)}
    assert len(before) == 2
    seen = Counter[str]()
    for n in range(many(1, 15)):
        out = shutil.copytree(whole, tmp_path / str(n))
        [last] = out.glob("policy-*/policy-2")
        shutil.rmtree(last)
        files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(("report.", "."))]
        path = draw.choice(sorted(files))
        what = damage(path, draw)
        one = ended(train, training(roomy_model_folder, out))
        if one.status == 0:
            assert {path.parent.name: path.read_bytes() for path in out.glob(weights)} == before, what
        else:
            assert found(one, str(out)), (what, one.err)
        seen["found" if one.status else "harmless"] += 1
        shutil.rmtree(out)
    figure(f"damage to trainings of the policy: {dict(seen)}, none silently used")


def test_trained_parts_make_the_same_adapter_or_the_damage_is_named(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    shelf = Path(whole.argv[whole.argv.index("--pretrained") + 1])
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(f"the bird can fly {n} times") + "\n" for n in range(8)))

    def made(pretrained: Path) -> tuple[int, str, dict[str, str]]:
        to = tmp_path / "made"
        shutil.rmtree(to, ignore_errors=True)
        argv = ["--prompts", str(prompts), "--out", str(to), "--model", "qwen2.5-0.5b", "--offline"]
        argv += ["--set", f"model_path={whole.model}", "--set", f"pretrained={pretrained}"]
        one = ended(generate.main, argv)
        assert one.status == 0 or found(one, str(pretrained)), one.err
        return one.status, one.err, kept_of(to) if to.exists() else {}

    status, _, before = made(shelf)
    assert (status, bool(before)) == (0, True)
    seen = Counter[str]()
    for n in range(many(2, 30)):
        copy = shutil.copytree(shelf, tmp_path / str(n))
        what = damage(draw.choice(sorted(path for path in copy.rglob("*") if path.is_file())), draw)
        status, _, after = made(copy)
        assert status or after == before, what
        seen["found" if status else "harmless"] += 1
        shutil.rmtree(copy)
    figure(f"damage to trained parts: {dict(seen)}, none silently used")
