"""What every command shares: exit statuses, one-line errors, and quiet libraries."""

import argparse
import importlib.util
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cao.encodings import visible, write_any_text
from cao.errors import CaoError, InputError
from cao.files import no_room, shut
from cao.machine.processor import prepare_threads

PACKAGES = ("agent", "eval", "policies", "prompts", "tools")
"""The packages beside this one; their names are common ones."""

TRACING = ("LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGCHAIN_TRACING")
"""What turns on LangGraph's tracing by LangSmith; of those that are set, its client goes by the first."""


def quiet_libraries(*, offline: bool) -> None:
    """Keep libraries' chatter off the terminal, their threads from spinning and, offline, them off the network.

    Must run before torch, transformers or langgraph are imported.

    Args:
        offline: forbid the hub and every form of remote tracing, for the rest of the process.
    """
    prepare_threads()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
    if offline:
        os.environ.update(HF_HUB_OFFLINE="1", **dict.fromkeys(TRACING, "false"))
        socket.has_ipv6 = False  # else urllib3 opens and binds a socket when it is imported, to learn the same
        for name in ("huggingface_hub.constants", "datasets.config"):  # a library's user may have imported them before
            if name in sys.modules:
                vars(sys.modules[name])["HF_HUB_OFFLINE"] = True
        if "langsmith.utils" in sys.modules:  # it remembers what the environment said
            sys.modules["langsmith.utils"].get_env_var.cache_clear()


def run_main(
    parser: argparse.ArgumentParser, body: Callable[[argparse.Namespace], int], argv: list[str] | None, unread: int = 0
) -> int:
    """Understand a command's arguments, quieten the libraries and run its body.

    Args:
        parser: the command's parser.
        body: the command; gets the arguments and returns its exit status.
        argv: the arguments, those of the process when None.
        unread: as in ``run_command``.

    Returns:
        The exit status.
    """
    arguments = parser.parse_args(argv)
    quiet_libraries(offline=bool(getattr(arguments, "offline", False)))
    return run_command(lambda: body(arguments), debug=arguments.debug, unread=unread)


def run_command(body: Callable[[], int], *, debug: bool = False, unread: int = 0) -> int:
    """Run a command's body and turn what it raises into an exit status and one line on standard error.

    Args:
        body: the command; returns its exit status.
        debug: show the traceback of expected errors too.
        unread: status where the reader of our output went away; not 0 where more is left to do than to print.

    Returns:
        What ``body`` returned; ``unread``; 2 or 3 for expected errors, 130 for an interrupt, 1 for a defect.
    """
    write_any_text()
    try:
        with _termination_interrupts():
            refuse_other_packages()
            status = body()
            sys.stdout.flush()  # a reader that went away, or a full disk, is noticed here and not at exit
            return status
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:  # the reader of our output went away; nothing is wrong here
        _write_no_more()
        return unread
    except Exception as error:
        expected = error if isinstance(error, CaoError) else no_room(error) or shut(error)
        if expected is None:
            raise
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {visible(' '.join(str(expected).split()))}\n")
        try:
            sys.stdout.flush()
        except OSError:  # that is where there is no room
            _write_no_more()
        return expected.exit_code


def refuse_other_packages() -> None:
    """Raise InputError where another package hides one of ours: Python looks into the folder at hand first."""
    ours = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = next(iter(spec.submodule_search_locations or ()), spec.origin) if spec else None
        if origin is None or (place := Path(origin).resolve()).parent == ours:
            continue
        here = place.parent == Path.cwd().resolve()
        instead = "write python -P -m in place of python -m" if here else f"take {place.parent} off PYTHONPATH"
        raise InputError(f"{place} hides the package {name!r} of {ours}; start in another folder, or {instead}")


def _write_no_more() -> None:
    """Let what is still to be printed at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let a request to terminate end a command as Ctrl-C does, in this process alone."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a child that inherited this ends as it would have
            os._exit(128 + number)
        raise KeyboardInterrupt

    owner, ours = os.getpid(), threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def make_folder(folder: Path, choose: str = "--out") -> None:
    """Make a folder with all above it, or raise InputError with the option that names another one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: cannot be made ({reason}); choose another {choose}") from None
