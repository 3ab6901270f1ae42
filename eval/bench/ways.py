"""The ways of running that ``run`` compares with a run as it is; a module of its own, for ``--help`` names them."""

from dataclasses import dataclass

PLAIN = "as it is"


@dataclass(frozen=True)
class Way:
    """A way of starting a run.

    Attributes:
        arguments: that are added to the command's own.
        environment: variables that are set.
        busy: whether a process beside it keeps one core busy.
        words: what it is.
    """

    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    busy: bool = False
    words: str = PLAIN


WAYS = {
    "float32": Way(("--dtype", "float32"), words="--dtype float32"),
    "bfloat16": Way(("--dtype", "bfloat16"), words="--dtype bfloat16"),
    "busy": Way(busy=True, words="beside a process that keeps one core busy"),
    "spinning": Way(environment=(("OMP_WAIT_POLICY", "active"),), words="with threads that spin"),
}
"""Name → what ``--compare`` sets against the run as it is."""
