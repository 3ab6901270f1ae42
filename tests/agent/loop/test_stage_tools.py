"""The stages as tools: what the graph's nodes hand on to a stage, its tool hands on too."""

import ast
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from langchain_core.tools import BaseTool

from agent.loop.stage_tools import STAGES, stage_tools
from agent.loop.trained import Trained, own_adapters
from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import silent
from cao.strategies import Standing
from tests.agent import tiny_pretrained as made

PROMPTS = [f"Question: What is {i} plus {i}{' again' * i}?\nAnswer:" for i in range(6)]

pytestmark = pytest.mark.integration


@pytest.fixture
def lm(tiny_model_folder: Path) -> LanguageModel:
    return made.load(tiny_model_folder)


def toolbox(lm: LanguageModel, folder: Path, trained: Trained) -> dict[str, BaseTool]:
    config = SimpleNamespace(seed=0)
    bench: Any = SimpleNamespace(
        lm=lm,
        folder=folder,
        store=folder / "adapters",
        encoder=Encoder(minilm_folder()),
        trained=trained,
        config=config,
        progress=silent,
        standing=lambda model: Standing(model, "tiny", trained.generator is not None, pool=tuple(trained.pool)),
    )
    return {tool.name: tool for tool in stage_tools(bench)}


@pytest.fixture
def whole(lm: LanguageModel) -> Trained:
    layout = made.layout_of(lm)
    generator = made.generator_of(lm, torch.full((layout.layers, layout.length), 1e-3))
    return Trained(generator, made.aligner_of(lm, generator, 1e-3))


def test_every_stage_is_what_its_node_and_its_command_call() -> None:
    for stage in STAGES.values():
        function = (stage.function.__module__, stage.function.__name__)
        for caller in stage.callers:
            spec = importlib.util.find_spec(caller)
            assert spec is not None
            nodes = list(ast.walk(ast.parse(Path(str(spec.origin)).read_text())))
            imported = {
                alias.asname or alias.name
                for node in nodes
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if (node.module, alias.name) == function
            }
            called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
            assert imported & called, (caller, function)


def test_a_tools_schema_is_its_stages(lm: LanguageModel, tmp_path: Path) -> None:
    tools = toolbox(lm, tmp_path, Trained())
    assert list(tools) == list(STAGES)
    arguments = {name: set(tool.args) for name, tool in tools.items()}
    assert arguments["apply_strategy"] == {"strategy", "prompts", "adapter"}
    assert arguments["evaluate"] == {"adapted"}
    schema = tools["align_lora"].tool_call_schema.model_json_schema()
    assert schema["required"] == ["prompts"]
    assert schema["properties"]["prompts"]["minItems"] == 1
    assert schema["properties"]["adapter"]["description"].startswith("folder of an adapter")
    assert all(tool.description == STAGES[name].tool.__doc__ for name, tool in tools.items())


def test_an_adapter_is_generated_and_aligned_by_the_trained_parts(
    lm: LanguageModel, whole: Trained, tmp_path: Path
) -> None:
    tools = toolbox(lm, tmp_path, whole)
    generated = tools["generate_lora"].invoke({"prompts": PROMPTS})["adapter"]
    assert whole.generator is not None
    expected = whole.generator.generate(*Encoder(minilm_folder()).condition(PROMPTS))
    weights = load_adapter(Path(generated["path"]), lm.sha256)
    assert all(torch.equal(weights.tensors[name], expected.tensors[name]) for name in expected.tensors)
    aligned = tools["align_lora"].invoke({"prompts": PROMPTS, "adapter": generated["path"]})["adapter"]
    moved = load_adapter(Path(aligned["path"]), lm.sha256)
    assert any(not torch.equal(moved.tensors[name], weights.tensors[name]) for name in weights.tensors)


@pytest.mark.parametrize("method", ["majority_vote", "avg_prompt_embed"])
def test_tts_gets_the_generator_and_the_encoder(lm: LanguageModel, whole: Trained, tmp_path: Path, method: str) -> None:
    strategy = json.dumps({"family": "TTS", "num_prompt_batches": 3, "method": method})
    applied = toolbox(lm, tmp_path, whole)["apply_strategy"].invoke({"strategy": strategy, "prompts": PROMPTS})
    assert len(applied["members"]) == 3
    assert applied["method"] == method
    assert (applied["centroids"] is None) == (method == "majority_vote")
    assert all(Path(member["path"]).is_relative_to(tmp_path / "adapters") for member in applied["members"])


def test_the_pool_holds_the_base_the_current_adapter_the_centre_and_the_users_own(
    lm: LanguageModel, whole: Trained, tmp_path: Path
) -> None:
    """The user's folder twice, and the current adapter once more, count once."""
    current, own = (save_adapter(tmp_path, lm.fresh_lora(seed), "tiny") for seed in (1, 2))
    trained = replace(whole, own=own_adapters(lm, [own.path, own.path, current.path]))
    strategy = json.dumps({"family": "TTS", "num_prompt_batches": 1, "method": "sum_logprobs", "members": "pool"})
    named = {"strategy": strategy, "prompts": PROMPTS, "adapter": current.path}
    other = save_adapter(tmp_path, replace(lm.fresh_lora(3), base_sha256="0" * 64), "tiny")
    with pytest.raises(InputError, match=r"cannot be a member of pool: .* made for base model 0.*: mend it"):
        own_adapters(lm, [own.path, other.path])
    found = toolbox(lm, tmp_path, trained)["apply_strategy"].invoke(named)
    assert whole.generator is not None
    centre = whole.generator.centre_weights()
    assert centre is not None
    assert torch.allclose(whole.generator.to_residual(centre), whole.generator.centre, atol=1e-6)
    others = [sha256 for sha256 in trained.pool if sha256 != current.sha256]
    assert set(others) == {adapter_sha256(centre), own.sha256}
    assert [member and member["sha256"] for member in found["members"]] == [None, current.sha256, *others]


def test_blank_and_repeated_prompts_make_no_other_adapter(lm: LanguageModel, whole: Trained, tmp_path: Path) -> None:
    tools, more = toolbox(lm, tmp_path, whole), [PROMPTS[0], " ", *PROMPTS, PROMPTS[3].upper()]
    clean, made = (tools["generate_lora"].invoke({"prompts": prompts}) for prompts in (PROMPTS, more))
    assert made["adapter"] == clean["adapter"]
    assert made["kept"] == [0, 3, 4, 5, 6, 7]
    assert [caveat.split(" ", 1)[1] for caveat in made["caveats"]][:2] == [
        "of 9 prompts are blank and were left out",
        "of 9 prompts repeat another one and were left out",
    ]
    strategy = {"strategy": json.dumps({"family": "TTS", "num_prompt_batches": 2, "method": "avg_sim_score"})}
    clean, made = (tools["apply_strategy"].invoke({**strategy, "prompts": prompts}) for prompts in (PROMPTS, more))
    assert made == clean


def test_without_trained_parts_the_tools_say_what_is_missing(lm: LanguageModel, tmp_path: Path) -> None:
    tools = toolbox(lm, tmp_path, Trained())
    for name in ("generate_lora", "align_lora"):
        said = tools[name].invoke({"prompts": PROMPTS})
        assert said["adapter"] is None
        assert said["reason"]
