"""Memory and time of each part of ``size``: a process a part, so that its peak is its own.

What a part takes is reckoned before it is begun, and said in the place of beginning it where it does not fit.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from cao.errors import CaoError, InputError
from cao.machine.compute import choose_compute
from cao.model.memory import LIBRARIES, available, in_words
from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.measure import BenchResult, Line, largest_size, machine
from eval.bench.options import SizeBench
from eval.bench.size.configurations import SIZES, Size
from eval.bench.size.parts import PARTS, Order


class Measured(Record):
    """What came of one part.

    Attributes:
        name: of the part.
        what: it does.
        expected: bytes that it was reckoned to take.
        seconds: by the clock, loading included; None where it was not done.
        cpu_s: of all processors.
        peak: bytes that its process held at most.
        note: what it did, or why it was not done.
    """

    name: str
    what: str
    expected: int
    seconds: float | None = None
    cpu_s: float | None = None
    peak: int | None = None
    note: str = ""

    @property
    def line(self) -> Line:
        """The figures in words."""
        label = f"{self.name}: {self.what}"
        if self.seconds is None or self.cpu_s is None:
            return label, f"not done: {self.note}"
        peak = "" if self.peak is None else f", {in_words(self.peak)} at most (reckoned {in_words(self.expected)})"
        return label, f"{self.seconds:.1f} s ({self.cpu_s:.1f} s of processors){peak}; {self.note}"


class SizeResult(BenchResult):
    """What was measured of a model's parts.

    Attributes:
        model: its name.
        parameters: its weights.
        preset: of the training phases.
        dtype: of the language model.
        free: bytes that parts might take.
        parts: in the order in which they were done.
    """

    model: str
    parameters: int
    preset: str
    dtype: str
    free: int
    parts: tuple[Measured, ...]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        about = f"{self.model}, {self.parameters:,} random weights, in {self.dtype}; preset {self.preset}"
        return [("model", f"{about}; {in_words(self.free)} free"), *(part.line for part in self.parts)]


def bench(options: SizeBench, progress: Progress = silent) -> SizeResult:
    """Measure the parts that are asked for, and those that they need.

    Raises:
        InputError: no part has such a name.
    """
    with ExitStack() as stack:
        place = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        order = Order(
            size=SIZES[options.model],
            folder=place.absolute() / "model",
            dtype=choose_compute(options.dtype).dtype,
            questions=options.questions,
        )
        order.folder.mkdir(parents=True, exist_ok=True)
        return measure(order, options.parts, memory=options.memory, progress=progress)


def measure(
    order: Order, names: Sequence[str] = (), *, memory: float | None = None, progress: Progress = silent
) -> SizeResult:
    """Measure parts of one model.

    Args:
        order: what they work with.
        names: of the parts; all of them when empty.
        memory: GB that a part may take; None for what is free when it begins.
        progress: called before each part and after the last one.

    Raises:
        InputError: no part has such a name.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise InputError(f"no part is called {unknown[0]!r}; known: {', '.join(PARTS)}")
    wanted = [name for name in PARTS if not names or name in names or any(name in PARTS[n].needs for n in names)]
    described, parameters, done = machine(), order.size.parameters, dict[str, Measured]()
    free = available() if memory is None else round(1e9 * memory)
    for number, name in enumerate(wanted):
        progress(f"size: {PARTS[name].what}", number, len(wanted))
        done[name] = _part(order, name, parameters, memory, done)
    progress("size", len(wanted), len(wanted))
    return SizeResult(
        bench="size",
        machine=described,
        repetitions=1,
        model=_called(order.size),
        parameters=parameters,
        preset=order.size.preset,
        dtype=order.dtype,
        free=free,
        parts=tuple(done.values()),
    )


def _called(size: Size) -> str:
    return size.name or "a model without a name"


def _part(order: Order, name: str, parameters: int, memory: float | None, done: dict[str, Measured]) -> Measured:
    """Do one part in a process of its own, where it fits and what it needs was done."""
    part = PARTS[name]
    missing = [need for need in part.needs if done[need].seconds is None]
    if missing:
        return Measured(name=name, what=part.what, expected=0, note=f"it needs {', '.join(missing)}")
    expected = round(LIBRARIES + part.bytes(order, parameters))
    free = available() if memory is None else round(1e9 * memory)
    measured = Measured(name=name, what=part.what, expected=expected)
    if expected > free:
        note = f"it takes about {in_words(expected)}, {in_words(free)} may be taken"
        return measured.model_copy(update={"note": note})
    return measured.model_copy(update=in_own_process(order, name))


def in_own_process(order: Order, name: str) -> dict[str, object]:
    """Do one part in a new process and return what it sent, or why there is nothing."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(order.model_dump_json(), name, there))
    process.start()
    there.close()
    try:
        sent: dict[str, object] = here.recv()
    except EOFError:
        sent = {}
    finally:
        process.join()
        here.close()
    ended = "it was killed, as where memory runs out" if process.exitcode == -9 else f"exit status {process.exitcode}"
    return sent or {"note": ended}


def child(order: str, name: str, pipe: Connection) -> None:
    """Do one part and send its figures."""
    began, cpu = time.perf_counter(), time.process_time()
    try:
        note = PARTS[name].do(Order.model_validate_json(order), silent)
    except CaoError as error:
        pipe.send({"note": str(error)})
        return
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    pipe.send({"seconds": seconds, "cpu_s": used, "peak": largest_size(), "note": note})
