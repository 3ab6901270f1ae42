"""``python -m policies.propose``: what a policy would try in a given situation."""

import argparse
import json
import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from cao.command_line import run_main
from cao.configuration import (
    Device,
    Dtype,
    ModelPath,
    Offline,
    Pretrained,
    assigned,
    explain,
    merge,
    read_settings,
    read_tables,
    table_of,
    validated,
)
from cao.errors import InputError
from cao.model.profiles import MODELS
from cao.options import Option, add_common, add_options, command_parser
from cao.policy_settings import PolicySettings
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import Record, StrategyFields
from policies.base import Policy, PolicyContext
from policies.fixed import read_text
from policies.messages import plain_json
from policies.registry import OF_A_MODEL, build_policy
from prompts.render import as_data


class ProposeOptions(Record):
    """What the command takes besides the policy's own settings."""

    context: Annotated[
        Path, Field(description="a task context: plain text, or a JSON object of a run's state"), Option("FILE")
    ]
    policy: Annotated[
        str, Field(description="who proposes: local, openai, fixed, random, portfolio, surrogate"), Option("NAME")
    ] = "local"
    model: Annotated[
        str | None,
        Field(
            description=f"the model it asks or was learnt for: {', '.join(MODELS)}, a folder, a .gguf file or a hub id"
        ),
        Option("NAME|DIR|HUB_ID", default=next(iter(MODELS))),
    ] = None
    model_path: ModelPath = None
    strategy_file: Annotated[str | None, Field(description="what the fixed policy proposes"), Option("FILE")] = None
    n: Annotated[int, Field(ge=1, le=10_000, description="proposals"), Option("N")] = 20
    seed: Annotated[int, Field(ge=0, lt=2**63, description="of the draws"), Option("N")] = 0
    device: Device = "cpu"
    dtype: Dtype = "auto"
    offline: Offline = False
    pretrained: Pretrained = None


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("policies.propose", __doc__)
    add_options(p, ProposeOptions)
    add_common(p, config=True, settable="one setting of the policy, such as top_p=0.9")
    return p


def read_context(path: Path) -> PolicyContext:
    """Return the situation that a file describes: a JSON object with some keys of PolicyContext, or τ as plain text.

    Raises:
        InputError: the file cannot be read, is empty, or is a JSON object that is no context.
    """
    content = read_text(path).strip()
    if not content:
        raise InputError(f"{path}: is empty; write a paragraph about the task")
    if not content.startswith("{"):
        return PolicyContext(task_context=content)
    try:
        return PolicyContext.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def understand(arguments: argparse.Namespace) -> tuple[ProposeOptions, PolicySettings]:
    """Return what the command takes and the policy's settings: a file's ``[policy_settings]``, ``--set``, options.

    Raises:
        InputError: an unknown key or an impossible value.
    """
    options = read_settings(ProposeOptions, arguments, "propose", settable=False)
    file = arguments.config
    table = table_of(read_tables(file), "policy_settings", file) if file else {}
    named = {key: getattr(options, key) for key in ("model", "model_path", "strategy_file")}
    given = {key: value for key, value in named.items() if value is not None}
    return options, validated(PolicySettings, merge(merge(table, assigned(arguments.assignments)), given), "--set")


def _build(options: ProposeOptions, settings: PolicySettings) -> Policy:
    lm = None
    if options.policy in OF_A_MODEL:
        from cao.model.loading import load_language_model, resolve  # noqa: PLC0415  (torch; the other policies need none)

        name, path = settings.model or next(iter(MODELS)), settings.model_path
        lm = load_language_model(
            resolve(name, settings.profile, path=path, offline=options.offline),
            path=path,
            device=options.device,
            dtype=options.dtype,
            offline=options.offline,
        )
        settings = settings.model_copy(update={"model": None, "model_path": None})  # it is loaded
    return build_policy(options.policy, settings, lm=lm, offline=options.offline, pretrained=options.pretrained)


class Proposal(BaseModel):
    """One line of the answer.

    Attributes:
        raw: what the policy said.
        valid: whether it is a strategy.
        strategy: the strategy, None where it is none.
        reason: why it is none, empty where it is one.
    """

    raw: str
    valid: bool
    strategy: StrategyFields | None
    reason: str


def check_proposal(raw: str) -> Proposal:
    """Return a policy's text with the verdict of the strict parser."""
    try:
        strategy = parse_strategy(raw).canonical()
    except StrategyRejectedError as error:
        return Proposal(raw=raw, valid=False, strategy=None, reason=str(error))
    return Proposal(raw=raw, valid=True, strategy=strategy, reason="")


def _table(proposals: list[Proposal]) -> str:
    lines = []
    for number, proposal in enumerate(proposals, 1):
        if proposal.strategy is not None:
            lines.append(f"{number:>3}  valid     {plain_json(proposal.strategy)}")
        else:
            lines.append(f"{number:>3}  rejected  {as_data(proposal.raw, 70)!r}: {as_data(proposal.reason, 120)}")
    valid = sum(proposal.valid for proposal in proposals)
    return "\n".join([*lines, f"{valid} of {len(proposals)} are valid strategies"]) + "\n"


def _body(arguments: argparse.Namespace) -> int:
    options, settings = understand(arguments)
    context = read_context(options.context)
    proposals = [check_proposal(raw) for raw in _build(options, settings).propose(context, options.n, options.seed)]
    if arguments.json:
        sys.stdout.writelines(json.dumps(proposal.model_dump()) + "\n" for proposal in proposals)
    else:
        sys.stdout.write(_table(proposals))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments, those of the process when None.
    """
    return run_main(parser(), _body, argv)


if __name__ == "__main__":
    sys.exit(main())
