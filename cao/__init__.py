"""The shared vocabulary: what at least two of the other packages need; and the library's door.

Types, strategy schema, tasks, language model, encoder, adapters and assets. No graph, no API client, no
command lives here. ``from cao import adapt, detect, generate, watch, load`` finds the verbs in ``agent.api`` when they
are asked for, as the console script finds commands; ``__init__.pyi`` tells type checkers and editors what they are.

Axis letters, used in every shape in this code base:

=====  =====================================================
B      tasks, or rows of a batch
N      prompts of one task
L      tokens of one prompt
C      channels of the frozen encoder
D      length of one flat adapter
J      LoRA tokens of one layer
k      scalars in one LoRA token
d      width of the language model's hidden state
V      size of the vocabulary
T      optimisation steps
=====  =====================================================
"""

import importlib

__version__ = "0.1.0"

VERBS = ("adapt", "detect", "generate", "load", "watch")
LIBRARY = "agent.api"


def __getattr__(name: str) -> object:
    """Return a verb of the library; models' libraries are imported with the first one, and not before."""
    if name not in VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    command_line = importlib.import_module("cao.command_line")
    command_line.refuse_other_packages()
    command_line.quiet_libraries(offline=False)  # before they are imported
    return getattr(importlib.import_module(LIBRARY), name)


def __dir__() -> list[str]:
    """Return the names of the module, the verbs among them."""
    return sorted([*globals(), *VERBS])
