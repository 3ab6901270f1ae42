"""The stages in one table: a typed function each, which the node, the command and the LangChain tool call.

A tool binds in the loaded models and takes plain JSON: any LangGraph or LangChain agent can call a stage by name.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import Field, create_model

from agent.loop.state import Workbench
from cao.drift import DriftReport
from cao.model.soft_prompt.either import load_carried, reference
from cao.strategy import parse_strategy
from cao.types import AdaptedModel, AdapterRef, Record, Reward
from policies.describe import Description, describe
from tools.align_lora import AlignmentResult, align_lora
from tools.apply_strategy import apply_strategy
from tools.detect_drift import detect_drift
from tools.detect_drift.reference import known_tasks
from tools.evaluate import evaluate
from tools.evaluate.statistics import summarise
from tools.generate_lora import GenerationResult, generate_lora

Prompts = Annotated[list[str], Field(description="prompts of one task, without answers", min_length=1)]
Folder = Annotated[str | None, Field(description="folder of an adapter in PEFT format, null for the base model")]


def _describe(bench: Workbench, prompts: Prompts) -> Description:
    """Write one paragraph that says what kind of task the prompts belong to."""
    config = bench.config
    pairs: list[tuple[str, str | None]] = [(prompt, None) for prompt in prompts]
    settings, offline = config.policy_settings, config.offline
    return describe(config.describer, bench.task, pairs, settings=settings, lm=bench.lm, seed=0, offline=offline)


def _detect(bench: Workbench, prompts: Prompts) -> DriftReport:
    """Test whether the prompts drifted from every known task, and name the nearest one."""
    embeddings, known = bench.encoder.hold(prompts).embeddings, known_tasks((), bench.encoder)
    return detect_drift(prompts, embeddings, known, encoder=bench.encoder, seed=0)


def _generate(bench: Workbench, prompts: Prompts) -> GenerationResult:
    """Generate LoRA weights from the prompts in one forward pass, where a trained generator exists."""
    generator = bench.trained.generator
    return generate_lora(prompts, lm=bench.lm, store=bench.store, encoder=bench.encoder, generator=generator)


def _align(bench: Workbench, prompts: Prompts, adapter: Folder = None) -> AlignmentResult:
    """Align generated LoRA weights to the prompts' task, where a trained aligner exists."""
    reference, trained = _reference(bench, adapter), bench.trained
    return align_lora(
        reference, prompts, lm=bench.lm, store=bench.store, aligner=trained.aligner, variant=trained.variant
    )


def _apply(bench: Workbench, strategy: str, prompts: Prompts, adapter: Folder = None) -> AdaptedModel:
    """Apply one strategy, stated as JSON, to the model; returns what to evaluate."""
    return apply_strategy(
        parse_strategy(strategy),
        prompts,
        bench.standing(AdaptedModel(members=(_reference(bench, adapter),))),
        bench.config.seed,
        lm=bench.lm,
        store=bench.store,
        generator=bench.trained.generator,
        pool=bench.trained.pool,
        encoder=bench.encoder,
        progress=bench.progress,
    )


def _evaluate(bench: Workbench, adapted: dict[str, object] | None = None) -> Reward:
    """Measure an adapted model (as apply_strategy returns it; null is the base model) on the reward questions."""
    model = AdaptedModel.model_validate(adapted or {})
    examples, protocol = bench.splits.reward, bench.protocol
    support = bench.splits.support
    items = evaluate(bench.task, examples, model, protocol, lm=bench.lm, encoder=bench.encoder, support=support)
    return summarise(items)


def _reference(bench: Workbench, folder: str | None) -> AdapterRef | None:
    if folder is None:
        return None
    return reference(folder, load_carried(Path(folder), bench.lm.sha256), bench.lm.sha256)


@dataclass(frozen=True)
class Stage:
    """One stage of the method.

    Attributes:
        function: what does it, typed.
        tool: the same with plain JSON arguments, the first of them the workbench; its docstring tells an agent.
        callers: the modules of the node and, where there is one, of the command that does this stage alone.
    """

    function: Callable[..., object]
    tool: Callable[..., Record]
    callers: tuple[str, ...]


STAGES: dict[str, Stage] = {
    "describe_task": Stage(describe, _describe, ("agent.loop.nodes",)),
    "detect_drift": Stage(detect_drift, _detect, ("agent.loop.nodes", "agent.stages.drift")),
    "generate_lora": Stage(generate_lora, _generate, ("agent.loop.nodes", "agent.stages.generate")),
    "align_lora": Stage(align_lora, _align, ("agent.loop.nodes", "agent.stages.generate")),
    "apply_strategy": Stage(apply_strategy, _apply, ("agent.loop.applying",)),
    "evaluate": Stage(evaluate, _evaluate, ("agent.loop.answers", "eval.score_command")),
}
"""Name for agents → stage. Who proposes strategies is no stage: a policy does, or the agent that calls these tools."""


def stage_tools(bench: Workbench) -> list[BaseTool]:
    """Return the stages as tools, bound to a workbench; files go to its run folder only.

    Args:
        bench: the loaded models, the data and the folder.
    """
    return [_tool(name, stage, bench) for name, stage in STAGES.items()]


def _tool(name: str, stage: Stage, bench: Workbench) -> BaseTool:
    def call(**arguments: object) -> dict[str, object]:
        return stage.tool(bench, **arguments).model_dump(mode="json")

    _, *arguments = inspect.signature(stage.tool).parameters.values()
    fields: dict[str, Any] = {
        argument.name: (argument.annotation, ... if argument.default is argument.empty else argument.default)
        for argument in arguments
    }
    schema = create_model(name, **fields)
    return StructuredTool.from_function(call, name=name, description=stage.tool.__doc__, args_schema=schema)
