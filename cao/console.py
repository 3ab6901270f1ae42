"""The console script ``cao``: every command as a verb, and completion for the shell.

Commands are found by their modules' names: this package imports nothing above it.
"""

import argparse
import importlib
import sys

from cao import __version__
from cao.command_line import run_command

VERBS = {
    "run": ("agent.run", "adapt the language model to a task, and say whether it helped"),
    "trace": ("agent.trace", "see what runs did, compare them, start one again from a step"),
    "ui": ("agent.ui", "a page on this machine over all runs"),
    "doctor": ("agent.doctor", "what is installed and reachable, and what to do about the rest"),
    "drift": ("agent.drift", "report on windows of prompts"),
    "reference": ("agent.reference", "the registry of known tasks"),
    "watch": ("agent.watch", "watch a stream of prompts for drift"),
    "generate": ("agent.generate", "make an adapter from prompts"),
    "export": ("agent.export", "write what a run adopted as a folder that serves"),
    "verify": ("agent.verify", "prove that an adapter acts, here or on a server"),
    "serve": ("agent.serve", "serve the base model and what runs adopted, by OpenAI's API"),
    "consolidate": ("agent.consolidate", "train the generator and the aligner for a base model"),
    "train-policy": ("agent.train_policy", "train the local policy"),
    "propose": ("policies.propose", "what a policy would try in a given situation"),
    "score": ("eval.score", "measure a model, with or without an adapter, on a task"),
    "compare": ("eval.compare", "judge two sets of answers to the same questions by paired tests"),
    "tables": ("eval.tables", "measure a claim and write its page"),
    "bench": ("eval.bench.command", "measure what something costs here"),
}
"""Verb → the module with its ``parser`` and ``main``, and what it does."""

SHELLS = ("bash", "zsh")

EPILOG = """each verb has its own --help, and is python -m with its module too. Completion of verbs and options, in a
shell's start-up file: eval "$(cao completion bash)", or zsh."""

SCRIPT = """_cao() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{verbs}"
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _cao cao
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of what stands before a verb's own arguments."""
    p = argparse.ArgumentParser(
        prog="cao",
        description="Catch distribution drift, adapt a small language model to it, and operate the adaptation.",
        epilog=EPILOG,
    )
    p.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = p.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (_, summary) in VERBS.items():
        verbs.add_parser(name, help=summary)
    shells = verbs.add_parser("completion", help="print what completes verbs and options in a shell")
    shells.add_argument("shell", choices=SHELLS)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the verb and return its exit status.

    Args:
        argv: the arguments, those of the process when None.
    """
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in VERBS:
        status: int = importlib.import_module(VERBS[given[0]][0]).main(given[1:])
        return status
    arguments = parser().parse_args(given)
    return run_command(lambda: _print(completion(arguments.shell)))


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def completion(shell: str) -> str:
    """Return the lines that complete verbs and options.

    Args:
        shell: one of ``SHELLS``.
    """
    cases = [
        f"      {verb}) words={' '.join(_words(importlib.import_module(module).parser()))!r};;"
        for verb, (module, _) in VERBS.items()
    ]
    cases.append(f"      completion) words={' '.join(SHELLS)!r};;")
    script = SCRIPT.format(verbs=" ".join((*VERBS, "completion")), cases="\n".join(cases))
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _words(p: argparse.ArgumentParser) -> list[str]:
    """Return a parser's options, and those of the verbs below it."""
    words: dict[str, None] = {}
    for action in p._actions:
        words |= dict.fromkeys(word for word in action.option_strings if word.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                words |= dict.fromkeys((name, *_words(below)))
    return list(words)


if __name__ == "__main__":
    sys.exit(main())
