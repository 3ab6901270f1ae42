"""The stream's test: bets by hand, the run length without drift, the delay with it, and the frozen bag."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.tasks import get_task
from cao.tasks.splits import part
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.order import reach
from tools.detect_drift.reference import known_tasks
from tools.detect_drift.sequential import POWERS, Strangeness, StreamDetector, alarms, bets


def normal(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n) + shift


def test_bet_by_hand_and_with_mean_one() -> None:
    assert bets(1.0) == pytest.approx(POWERS)
    assert bets(0.01) == pytest.approx([k * 100 ** (1 - k) for k in POWERS])
    for k in range(len(POWERS)):
        mean = quad(lambda u, k=k: bets(math.exp(-u))[k] * math.exp(-u), 0, 600, limit=500)[0]  # ∫ e(p) dp, p = e^−u
        assert mean == pytest.approx(1.0, abs=1e-6)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_statistic_by_its_recursion(p_values: list[float]) -> None:
    class Given(StreamDetector):
        def p_values(self, scores: Sequence[float]) -> list[float]:
            return list(scores)

    detector = Given([[0.0]], threshold=50.0)
    for n, p in enumerate(p_values, 1):
        alarm = detector.update([p])
        starts = {  # every possible beginning: what each bet would have won from there
            (k, i): math.prod(power * q ** (power - 1) for q in p_values[i:n])
            for k, power in enumerate(POWERS)
            for i in range(n)
        }
        expected = sum(starts.values()) / len(POWERS)
        assert detector.statistic == pytest.approx(expected)
        assert alarm == (detector.statistic >= 50.0)
        best = max(starts.values())
        assert max(starts[k, detector.since] for k in range(len(POWERS))) == pytest.approx(best)


def test_p_values_of_an_undrifted_stream_are_uniform() -> None:
    detector, found = StreamDetector([normal(0, 50).tolist()], math.inf), []
    for score in normal(1, 3000):
        found += detector.p_values([score])
        detector.update([score])
    for level in (0.05, 0.25, 0.5, 0.9):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 3000))


def test_ties_count_by_a_random_share() -> None:
    found = [StreamDetector([[1.0] * 9], seed=seed).p_values([1.0])[0] for seed in range(300)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)
    assert min(found) > 0
    assert max(found) <= 1


def test_mean_run_length_without_drift_reaches_the_threshold() -> None:
    lengths = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        lengths.append(alarms(rng.normal(size=(2000, 1)), [rng.normal(size=100).tolist()], 100.0, seed) or 2000)
    low = np.mean(lengths) - 1.64 * np.std(lengths, ddof=1) / math.sqrt(len(lengths))
    assert low > 100


@pytest.mark.parametrize(("share", "most"), [(1.0, 8), (0.5, 16), (0.25, 40)])
def test_change_is_found_soon(share: float, most: int) -> None:
    delays = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        stream = np.where(rng.random(400) < share, rng.normal(size=400) + 4, rng.normal(size=400))
        delays.append(alarms(stream[:, None], [rng.normal(size=250).tolist()], 1000.0, seed) or 400)
    assert np.median(delays) <= most


def test_slow_drift_is_not_diluted_by_a_growing_bag() -> None:
    rng = np.random.default_rng(0)
    detector = StreamDetector([rng.normal(size=250).tolist()], 1000.0, cap=300)
    ramp = rng.normal(size=6000) + np.linspace(0, 3, 6000)
    first = next(i for i, score in enumerate(ramp) if detector.update([score]))
    assert len(detector.bags[0]) == 300
    assert ramp[first - 100 : first].mean() < 2.0  # long before the end of the ramp


def test_state_goes_on_as_if_nothing_happened() -> None:
    whole, scores = StreamDetector([normal(0, 40).tolist()], seed=3), normal(1, 60, 0.5)
    part = StreamDetector([normal(0, 40).tolist()], seed=3)
    for i, score in enumerate(scores):
        if i == 30:
            part = StreamDetector(**part.state())
        assert part.update([score]) == whole.update([score])
    assert part.state() == whole.state()
    assert whole.since <= whole.seen


def test_strangeness_notices_the_new_and_the_known_elsewhere() -> None:
    def cloud(seed: int, n: int, *shift: float) -> torch.Tensor:
        points = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
        points[:, : len(shift)] += torch.tensor(shift)
        return torch.nn.functional.normalize(points, dim=1)

    references = {"a": Reference(cloud(0, 200, 4)), "b": Reference(cloud(1, 200, 0, 4))}
    strange = Strangeness(KnownTasks(references, ("a",)))
    usual = np.median(strange.usual()[0])
    assert np.median(strange(cloud(2, 100, 4))) == pytest.approx(usual, abs=0.5)
    assert np.median(strange(cloud(3, 100, 0, 4))) > usual + 3
    assert np.median(strange(cloud(4, 100, 0, 0, 4))) > usual + 3
    both = Strangeness(KnownTasks(references, ("a", "b")))(cloud(3, 100, 0, 4))
    assert both.shape == (100, 2)
    assert np.median(both[:, 1]) < np.median(both[:, 0]) - 2


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_run_length_holds_however_a_stream_mixes_its_tasks(share: float) -> None:
    lengths = []
    for seed in range(60):  # one task scatters widely, the other hardly; their scores are far apart
        rng = np.random.default_rng(seed)
        bags = [rng.normal(size=100).tolist(), (0.1 * rng.normal(size=100) - 3).tolist()]
        wide, narrow = rng.normal(size=2000), 0.1 * rng.normal(size=2000) - 3
        mine = rng.random(2000) < share
        stream = np.where(mine[:, None], np.stack([wide, wide + 8], 1), np.stack([narrow + 8, narrow], 1))
        lengths.append(alarms(stream, bags, 100.0, seed) or 2000)
    assert np.mean(lengths) - 1.64 * np.std(lengths, ddof=1) / math.sqrt(len(lengths)) > 100


# --- a reference that is learnt from a stream

LEARNT = 64


def prompts_to_alarm(stream: torch.Tensor, known: KnownTasks, seed: int) -> tuple[int, bool]:
    """Learn a reference from a stream's first prompts, as the watch does, and judge the others."""
    new = Reference(stream[:LEARNT], in_order=True)
    every, later = reach(new.embeddings, 199, seed), stream[LEARNT:]
    strange = Strangeness(KnownTasks({**known.references, "new": new}, ("new",)))
    first = alarms(strange(later[::every]), strange.usual(), 1000.0, seed)
    return (first * every if first else len(later)), first is not None


def points(generator: torch.Generator, n: int, *shift: float) -> torch.Tensor:
    rows = torch.randn(n, 48, generator=generator)
    rows[:, : len(shift)] += torch.tensor(shift)
    return rows


def in_sessions(generator: torch.Generator, n: int, length: int) -> torch.Tensor:
    """A stationary kind whose prompts come in sessions of one subject each; twins are sessions of two."""
    subjects = points(generator, -(-n // length), 0, 0, 8).repeat_interleave(length, 0)[:n]
    return torch.nn.functional.normalize(subjects + 0.5 * torch.randn(n, 48, generator=generator), dim=1)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_run_length_holds_for_a_learnt_reference_whose_neighbours_resemble_each_other(length: int) -> None:
    """With random halves, and every prompt judged, twins gave an alarm in 425 prompts and sessions of six one in 26."""
    judged = alarmed = 0
    known = KnownTasks(
        {
            name: Reference(torch.nn.functional.normalize(points(torch.Generator().manual_seed(k), 128, *shift), dim=1))
            for k, (name, shift) in enumerate({"a": (8,), "b": (0, 8)}.items())
        }
    )
    for seed in range(30):
        stream = in_sessions(torch.Generator().manual_seed(100 + seed), LEARNT + 600, length)
        prompts, alarm = prompts_to_alarm(stream, known, seed)
        judged, alarmed = judged + prompts, alarmed + alarm
    assert judged / max(alarmed, 1) > 1000


@pytest.mark.parametrize("length", [1, 2, 5])
def test_reach_is_the_length_of_sessions(length: int) -> None:
    found = [reach(in_sessions(torch.Generator().manual_seed(seed), 64, length), 199, seed) for seed in range(20)]
    assert length <= np.median(found) <= length + 1
    assert reach(in_sessions(torch.Generator().manual_seed(0), 64, 40), 199, 0) == 8  # too long for the window
    assert reach(in_sessions(torch.Generator().manual_seed(0), 15, 2), 199, 0) == 1  # too few to tell


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("twins", [False, True])
def test_run_length_holds_for_learnt_references_of_real_prompts(twins: bool) -> None:
    encoder = Encoder(minilm_folder())
    known = known_tasks((), encoder)
    judged = alarmed = 0
    for task in ("social_iqa", "commonsense_qa"):
        own = [example.prompt for example in part(get_task(task), "train")][:400]
        for seed in range(12):
            drawn = [own[i] for i in np.random.default_rng(seed).permutation(len(own))[: 200 if twins else 400]]
            stream = [
                text for prompt in drawn for text in ([prompt, f"{prompt} Please answer."] if twins else [prompt])
            ]
            prompts, alarm = prompts_to_alarm(encoder.embed(stream), known, seed)
            judged, alarmed = judged + prompts, alarmed + alarm
    assert judged / max(alarmed, 1) > 1000
