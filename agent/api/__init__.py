"""The library: ``from cao import adapt, detect, generate, watch, load``, the commands' work for a program."""

from agent.api.given import Prompt, Question, Questions
from agent.api.progress import Progress, Step
from agent.api.run import AdaptedRun, adapt
from agent.api.verbs import detect, generate, load, watch
from agent.handover.model import Answer, Model

__all__ = [
    "AdaptedRun",
    "Answer",
    "Model",
    "Progress",
    "Prompt",
    "Question",
    "Questions",
    "Step",
    "adapt",
    "detect",
    "generate",
    "load",
    "watch",
]
