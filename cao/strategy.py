"""The one door through which a policy's text comes in as a strategy, and how a strategy is written again.

The policy's output is hostile by assumption: it is parsed strictly, every number is bounded on both ends,
unknown and repeated keys are refused, and the size of the text is capped.

Source: CAO-LLM §2.4, G.1-G.6.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from pydantic import ValidationError

from cao.strategies import FAMILIES, Strategy
from cao.strategies.base import FamilySchema, Withheld

MAX_STRATEGY_BYTES = 16_384


class StrategySchema(TypedDict):
    """The JSON schema of one strategy: that of one of the families."""

    anyOf: list[FamilySchema]


class StrategyRejectedError(ValueError):
    """A policy's text that is not a strategy; the message says why in one line."""


def _shown(key: object) -> str:
    """Return a key as a policy wrote it, fit for one line of a log: escaped and short."""
    return ascii(str(key))[1:-1][:60]


def _refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise StrategyRejectedError(f"key '{_shown(repeated[0])}' appears more than once")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise StrategyRejectedError(f"{name} is not a number that JSON knows")


def validate_strategy(value: object) -> Strategy:
    """Return the strategy that a decoded JSON value states.

    Args:
        value: what a JSON parser returned; a family may be named by another name of its own.

    Raises:
        StrategyRejectedError: it is not exactly one strategy within its bounds.
    """
    if not isinstance(value, dict):
        raise StrategyRejectedError(f"expected one JSON object, got {type(value).__name__}")
    family = value.get("family")
    family = next((name for name, model in FAMILIES.items() if family in model.other_names), family)
    model = FAMILIES.get(family) if isinstance(family, str) else None
    if model is None:
        raise StrategyRejectedError(f"key 'family' must be one of {', '.join(FAMILIES)}")
    for name in (name for known in FAMILIES.values() for name, field in known.model_fields.items() if field.alias):
        if name in value:  # the Python name of a field is not one of the paper's keys
            raise StrategyRejectedError(f"{name}: Extra inputs are not permitted")
    try:
        return model.model_validate({**value, "family": family})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(_shown(part) for part in first["loc"]) or "object"
        raise StrategyRejectedError(f"{family}: {where}: {first['msg']}") from None


def restore_strategy(canonical: Mapping[str, Any]) -> Strategy:
    """Return a strategy from the JSON object that ``canonical`` made of it; nothing is checked a second time.

    Args:
        canonical: of a strategy that came in through ``parse_strategy``.
    """
    return FAMILIES[canonical["family"]].model_construct(**canonical)


def parse_strategy(raw: str) -> Strategy:
    """Return the strategy that ``raw`` states; the text must be one JSON object and nothing else.

    Raises:
        StrategyRejectedError: the text is too long, is not JSON, repeats a key, or breaks a bound.
    """
    if len(raw.encode("utf-8", "surrogatepass")) > MAX_STRATEGY_BYTES:
        raise StrategyRejectedError(f"longer than {MAX_STRATEGY_BYTES} bytes")
    try:
        value = json.loads(raw, object_pairs_hook=_refuse_repeats, parse_constant=_refuse_constant)
    except StrategyRejectedError:
        raise
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deep or too long"
        raise StrategyRejectedError(f"not JSON: {reason}") from None
    return validate_strategy(value)


def strategy_schema(
    families: Iterable[str] | None = None,
    *,
    withheld: Mapping[str, Withheld] | None = None,
    every_key: bool = False,
) -> StrategySchema:
    """Return the JSON schema of one strategy, for constrained decoding and structured output.

    Args:
        families: the families to admit; all of them when None.
        withheld: family → values of its keys that are not admitted.
        every_key: demand the keys with a default too, as servers with strict schemas do.
    """
    names = FAMILIES if families is None else families
    schemas = [FAMILIES[name].schema_of((withheld or {}).get(name)) for name in names]
    for schema in schemas if every_key else ():
        schema["required"] = list(schema["properties"])
        for rule in schema["properties"].values():
            rule.pop("default", None)
    return {"anyOf": schemas}


def strategy_text(strategy: Mapping[str, object]) -> str:
    """Return a strategy as people read it: ``TTS(num_prompt_batches=8, method=max_confidence)``.

    Args:
        strategy: its JSON object, or what a file holds in its place.
    """
    settings = ", ".join(f"{key}={value}" for key, value in strategy.items() if key != "family")
    return f"{strategy.get('family', '?')}({settings})"
