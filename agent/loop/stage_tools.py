"""Each stage as a LangChain tool: a typed function with a schema, for agents other than our graph.

The nodes call the same stage functions; here the loaded models are bound in and arguments are plain JSON, so that any
LangGraph or LangChain agent can call a stage by name.
"""

from pathlib import Path
from typing import Annotated, Any

from langchain_core.tools import BaseTool, tool
from pydantic import Field

from agent.loop.state import Workbench
from cao.model.adapters import load_adapter
from cao.strategy import parse_strategy
from cao.types import AdaptedModel, AdapterRef
from policies.describe import describe
from tools.align_lora import align_lora
from tools.apply_strategy import apply_strategy
from tools.detect_drift import detect_drift
from tools.detect_drift.reference import known_tasks
from tools.evaluate import evaluate
from tools.evaluate.statistics import summarise
from tools.generate_lora import generate_lora

Prompts = Annotated[list[str], Field(description="prompts of one task, without answers", min_length=1)]
Folder = Annotated[str | None, Field(description="folder of an adapter in PEFT format, null for the base model")]


def stage_tools(bench: Workbench) -> list[BaseTool]:
    """Return the stages as tools, bound to a workbench; files go to its run folder only.

    Args:
        bench: the loaded models, the data and the folder.
    """

    def reference(adapter: str | None) -> AdapterRef | None:
        if adapter is None:
            return None
        weights = load_adapter(Path(adapter), bench.lm.sha256)
        return AdapterRef(path=adapter, sha256=Path(adapter).name, base_sha256=bench.lm.sha256, rank=weights.rank)

    @tool("describe_task")
    def describe_task(prompts: Prompts) -> dict[str, Any]:
        """Write one paragraph that says what kind of task the prompts belong to."""
        pairs: list[tuple[str, str | None]] = [(prompt, None) for prompt in prompts]
        settings, offline = bench.config.policy_settings, bench.config.offline
        made = describe(
            bench.config.describer, bench.task, pairs, settings=settings, lm=bench.lm, seed=0, offline=offline
        )
        return made.model_dump(mode="json")

    @tool("detect_drift")
    def detect(prompts: Prompts) -> dict[str, Any]:
        """Test whether the prompts drifted from every known task, and name the nearest one."""
        embeddings = bench.encoder.hold(prompts).embeddings
        known = known_tasks((), bench.encoder)
        return detect_drift(prompts, embeddings, known, encoder=bench.encoder, seed=0).model_dump(mode="json")

    @tool("generate_lora")
    def generate(prompts: Prompts) -> dict[str, Any]:
        """Generate LoRA weights from the prompts in one forward pass, where a trained generator exists."""
        generator = bench.trained.generator
        made = generate_lora(prompts, lm=bench.lm, store=bench.store, encoder=bench.encoder, generator=generator)
        return made.model_dump(mode="json")

    @tool("align_lora")
    def align(prompts: Prompts, adapter: Folder = None) -> dict[str, Any]:
        """Align generated LoRA weights to the prompts' task, where a trained aligner exists."""
        aligner = bench.trained.aligner
        made = align_lora(reference(adapter), prompts, lm=bench.lm, store=bench.store, aligner=aligner)
        return made.model_dump(mode="json")

    @tool("apply_strategy")
    def apply(strategy: str, prompts: Prompts, adapter: Folder = None) -> dict[str, Any]:
        """Apply one strategy, stated as JSON, to the model; returns what to evaluate."""
        parsed = parse_strategy(strategy)
        made = apply_strategy(
            parsed,
            prompts,
            reference(adapter),
            bench.config.seed,
            lm=bench.lm,
            store=bench.store,
            generator=bench.trained.generator,
            encoder=bench.encoder,
            progress=bench.progress,
        )
        return made.model_dump(mode="json")

    @tool("evaluate")
    def measure(adapted: dict[str, Any] | None = None) -> dict[str, Any]:
        """Measure an adapted model (as apply_strategy returns it; null is the base model) on the reward questions."""
        model = AdaptedModel.model_validate(adapted or {})
        items = evaluate(bench.task, bench.splits.reward, model, bench.protocol, lm=bench.lm, encoder=bench.encoder)
        return summarise(items).model_dump(mode="json")

    tools: list[BaseTool] = [describe_task, detect, generate, align, apply, measure]
    return tools
