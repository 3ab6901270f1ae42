"""``serving``: many clients at once, with the stream detector and without it by turns, then prompts that drift."""

import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cao.errors import InputError
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.splits import part
from cao.types import Record
from eval.bench.measure import BenchResult, Line, machine, ratio
from eval.bench.options import ServingBench
from eval.bench.serving.load import Question, Reply, ask, current, watch_seconds
from eval.bench.serving.servers import OTHER, USUAL, Server, made_up, server, watched_words

WARM_UP = 8
MOST_ROUNDS = 16
"""Of drifted prompts, until the swap comes."""


class Side(Record):
    """One server in the turns.

    Attributes:
        p50, p95: latency, seconds, over all requests.
        means: mean latency of each turn, seconds.
        cpu: the server's processor seconds of each turn.
        lost: requests that were not answered whole.
        watching: processor seconds of the detector's thread, in all turns.
    """

    p50: float
    p95: float
    means: tuple[float, ...]
    cpu: tuple[float, ...]
    lost: int
    watching: float = 0.0

    @property
    def share(self) -> float:
        """Processor time of the detector's thread over that of the rest of the server."""
        return self.watching / max(1e-9, sum(self.cpu) - self.watching)


class Swap(Record):
    """The load under which prompts drifted.

    Attributes:
        requests: of it.
        lost: of these, not answered whole.
        answered: model → requests that it answered.
        p50, p95: latency, seconds.
    """

    requests: int
    lost: int
    answered: dict[str, int]
    p50: float
    p95: float


class ServingResult(BenchResult):
    """What serving costs.

    Attributes:
        model: a model profile.
        clients: that asked side by side.
        requests: of each turn.
        plain, watched: without the stream detector, and with it.
        swap: while another model was swapped in.
    """

    model: str
    clients: int
    requests: int
    plain: Side
    watched: Side
    swap: Swap

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        latency = ratio(self.watched.means, self.plain.means)
        cpu = ratio(self.watched.cpu, self.plain.cpu)
        sides = (("without the watcher", self.plain), ("with the watcher", self.watched))
        swap = self.swap
        who = ", ".join(f"{name} {count}" for name, count in swap.answered.items())
        return [
            ("load", f"{self.model}, {self.clients} clients, {self.requests} requests a turn, none waits for another"),
            *((name, f"p50 {one.p50:.2f} s, p95 {one.p95:.2f} s, lost {one.lost}") for name, one in sides),
            ("mean latency, with / without", latency.text("{:.3f}")),
            ("processor time, with / without", cpu.text("{:.3f}")),
            ("the detector's thread, of the rest", f"{self.watched.share:.1%} of the server's processor time"),
            (
                "a swap in the middle",
                f"{swap.requests} requests, lost {swap.lost}; answered by {who}; p50 {swap.p50:.2f} s, "
                f"p95 {swap.p95:.2f} s",
            ),
        ]


def bench(options: ServingBench, progress: Progress) -> ServingResult:
    """Measure.

    Raises:
        InputError: there are too few prompts for so many requests.
        UnavailableError: the model is not at hand.
    """
    usual, other = _questions(USUAL), _questions(OTHER)
    needed = (options.repetitions + 1) * options.requests + WARM_UP
    if len(usual) < needed:
        raise InputError(f"{USUAL} has {len(usual)} prompts and {needed} are needed, each once; lower --requests")
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        words = watched_words(made_up(options, place / "adopted"))
        with server(options, place / "plain") as plain, server(options, place / "watched", *words) as watched:
            sides = {"plain": plain, "watched": watched}
            turns = _turns(options, sides, usual, progress)
            swap = _swap(options, watched, usual[-options.requests :], other, progress)
    return ServingResult(
        bench="serving",
        machine=before,
        repetitions=options.repetitions,
        model=options.model,
        clients=options.clients,
        requests=options.requests,
        plain=turns["plain"],
        watched=turns["watched"],
        swap=swap,
    )


def _questions(task: str) -> list[Question]:
    """Return a task's questions, each prompt once."""
    once = {one.prompt: Question(one.prompt, one.choices) for one in part(get_task(task), "train")}
    return list(once.values())


def _turns(
    options: ServingBench, sides: dict[str, Server], usual: Sequence[Question], progress: Progress
) -> dict[str, Side]:
    """Return what both servers did with the same prompts, by turns."""
    replies: dict[str, list[list[Reply]]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for one in sides.values():
        ask(one.url, usual[:WARM_UP], options.clients)
    watched = {name: watch_seconds(one.url) for name, one in sides.items()}
    for turn in range(options.repetitions):
        begin = WARM_UP + turn * options.requests
        for name, one in sides.items():
            before = one.cpu_seconds()
            replies[name].append(ask(one.url, usual[begin : begin + options.requests], options.clients))
            cpu[name].append(one.cpu_seconds() - before)
        progress("turn", turn + 1, options.repetitions)
    made = {}
    watched = {name: watch_seconds(one.url) - watched[name] for name, one in sides.items()}
    for name, each in replies.items():
        p50, p95 = _latency([reply for turn_ in each for reply in turn_])
        means = tuple(statistics.fmean(reply.seconds for reply in turn_) for turn_ in each)
        lost = sum(bool(reply.lost) for turn_ in each for reply in turn_)
        made[name] = Side(p50=p50, p95=p95, means=means, cpu=tuple(cpu[name]), lost=lost, watching=watched[name])
    return made


def _swap(
    options: ServingBench, watched: Server, usual: Sequence[Question], other: Sequence[Question], progress: Progress
) -> Swap:
    """Return what came of requests whose prompts drift, round by round until another model answers, and one more."""
    replies, begin, swapped = ask(watched.url, usual, options.clients), 0, False
    for number in range(MOST_ROUNDS):
        rest = [other[(begin + i) % len(other)] for i in range(options.requests)]
        replies += ask(watched.url, rest, options.clients)
        begin += options.requests
        progress("round until the swap", number + 1, MOST_ROUNDS)
        if swapped:
            break
        swapped = current(watched.url) == OTHER
    p50, p95 = _latency(replies)
    answered = dict(Counter(reply.model for reply in replies if not reply.lost))
    lost = sum(bool(reply.lost) for reply in replies)
    return Swap(requests=len(replies), lost=lost, answered=answered, p50=p50, p95=p95)


def _latency(replies: Sequence[Reply]) -> tuple[float, float]:
    """Return the median and the 95th percentile, seconds."""
    cuts = statistics.quantiles([reply.seconds for reply in replies], n=100, method="inclusive")
    return cuts[49], cuts[94]
