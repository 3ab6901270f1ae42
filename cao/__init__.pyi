"""What ``cao/__init__.py`` offers, for type checkers and editors: there the verbs are found when they are asked for."""

from agent.api import adapt as adapt
from agent.api import detect as detect
from agent.api import generate as generate
from agent.api import load as load
from agent.api import watch as watch

VERBS: tuple[str, ...]
LIBRARY: str
__version__: str
