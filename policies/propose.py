"""``python -m policies.propose``: what a policy would try in a given situation."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cao.command_line import compute_options, quiet_libraries, run_command
from cao.configuration import assigned, explain, validated
from cao.errors import InputError
from cao.model.profiles import MODELS, find_profile
from cao.strategy import StrategyRejectedError, parse_strategy
from policies.base import Policy, PolicyContext, PolicySettings
from policies.fixed import read_text
from policies.messages import plain_json
from prompts.render import as_data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m policies.propose", description=__doc__.partition(": ")[2])
    a = parser.add_argument
    a(
        "--context",
        metavar="FILE",
        required=True,
        help="a task context: plain text, or a JSON object of a run's state",
    )
    a("--policy", metavar="NAME", default="local", help="who proposes: local, openai, fixed, random (default local)")
    a(
        "--model",
        metavar="NAME",
        help=f"the local policy's model: {', '.join(MODELS)} (default {next(iter(MODELS))})",
    )
    a("--model-path", metavar="DIR", help="a folder with the local policy's model")
    a("--strategy-file", metavar="FILE", help="what the fixed policy proposes")
    a("--n", type=int, default=20, help="proposals (default 20)")
    a("--seed", type=int, default=0, help="default 0")
    a(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one setting of the policy, such as top_p=0.9",
    )
    compute_options(parser)
    a("--json", action="store_true", help="one JSON object a line: raw, valid, strategy, reason")
    a("--offline", action="store_true", help="never use the network")
    a("--debug", action="store_true", help="show tracebacks of expected errors")
    return parser


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


def read_settings(arguments: argparse.Namespace) -> PolicySettings:
    """Return the policy's settings as the command line states them; values are TOML, or else plain strings.

    Raises:
        InputError: an unknown key or an impossible value.
    """
    values = assigned(arguments.set)
    for key in ("model", "model_path", "strategy_file"):
        if getattr(arguments, key) is not None:
            values[key] = getattr(arguments, key)
    return validated(PolicySettings, values, "--set")


def _build(arguments: argparse.Namespace, settings: PolicySettings) -> Policy:
    from policies.registry import build_policy  # noqa: PLC0415  (seconds to import)

    lm = None
    if arguments.policy == "local":
        from cao.model.loading import load_language_model  # noqa: PLC0415  (seconds to import)

        name = settings.model or next(iter(MODELS))
        lm = load_language_model(
            find_profile(name),
            path=settings.model_path,
            device=arguments.device,
            dtype=arguments.dtype,
            offline=arguments.offline,
        )
        settings = settings.model_copy(update={"model": None, "model_path": None})  # it is loaded
    return build_policy(arguments.policy, settings, lm=lm, offline=arguments.offline)


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
    strategy: dict[str, Any] | None
    reason: str


def judge(raw: str) -> Proposal:
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
    if not 1 <= arguments.n <= 10_000:
        raise InputError("--n must lie between 1 and 10000")
    if not 0 <= arguments.seed < 2**63:
        raise InputError("--seed must not be negative or over 63 bits")
    context, settings = read_context(Path(arguments.context)), read_settings(arguments)
    quiet_libraries(offline=arguments.offline)
    proposals = [judge(raw) for raw in _build(arguments, settings).propose(context, arguments.n, arguments.seed)]
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
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _body(arguments), debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
