"""The energy test by hand and by brute force, the verdicts on made-up embeddings, and the cached references."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.assets import minilm_folder
from cao.encoder import Encoder, pool
from cao.errors import InputError
from cao.tasks import get_task
from cao.tasks.parts import part
from tools.detect_drift import condition_task, detect_drift, energy
from tools.detect_drift.energy import energy_distance, permutation_test
from tools.detect_drift.reference import KNOWN_TASKS, known_references, load_references, read_reference
from tools.detect_drift.window import distinct


def plain_energy(x: list[list[float]], y: list[list[float]]) -> float:
    """The definition, sum by sum: 2·E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖."""

    def mean(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(math.dist(p, q) for p in a for q in b) / (len(a) * len(b))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def cloud(seed: int, n: int, shift: float = 0.0, channels: int = 8) -> Tensor:
    points = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    points[:, 0] += shift
    return torch.nn.functional.normalize(points, dim=1)


def texts(n: int) -> list[str]:
    return [f"question number {i}" for i in range(n)]


# --- the kernel


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (column(0), column(3), 6.0),  # 2·3 − 0 − 0
        (column(0, 2), column(1), 1.0),  # 2·1 − (0+2+2+0)/4 − 0
        (column(0, 2), column(0, 4), 1.0),  # 2·(0+4+2+2)/4 − 1 − 2
        (torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), 10.0),
        (column(1, 2, 3), column(3, 1, 2), 0.0),
    ],
)
def test_energy_distance_by_hand(x: Tensor, y: Tensor, expected: float) -> None:
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-9)


POINTS = st.lists(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2), min_size=1, max_size=6)


@given(POINTS, POINTS)
@settings(max_examples=60, deadline=None)
def test_energy_distance_equals_the_definition_and_is_symmetric(x: list[list[float]], y: list[list[float]]) -> None:
    fast = energy_distance(torch.tensor(x), torch.tensor(y))
    assert fast == pytest.approx(max(plain_energy(x, y), 0.0), abs=1e-5)
    assert fast == pytest.approx(energy_distance(torch.tensor(y), torch.tensor(x)), abs=1e-9)
    assert fast >= 0


def test_p_value_approaches_the_share_of_all_relabellings() -> None:
    pooled = [[0.0], [0.3], [1.9], [0.2], [2.5], [2.0], [1.7]]
    observed = plain_energy(pooled[:3], pooled[3:])
    relabelled = [
        plain_energy([pooled[i] for i in chosen], [pooled[i] for i in range(7) if i not in chosen])
        for chosen in itertools.combinations(range(7), 3)
    ]
    exact = sum(value >= observed - 1e-9 for value in relabelled) / len(relabelled)
    assert 0.1 < exact < 0.9
    points = torch.tensor(pooled)
    _, p_value = permutation_test(points[:3], points[3:], 20_000, np.random.default_rng(0))
    assert p_value == pytest.approx(exact, abs=0.015)  # four standard errors


def test_p_value_is_k_plus_one_over_b_plus_one() -> None:
    distance, p_value = permutation_test(cloud(0, 20), cloud(1, 20, shift=9), 49, np.random.default_rng(0))
    assert p_value == 1 / 50
    assert distance == pytest.approx(energy_distance(cloud(0, 20), cloud(1, 20, shift=9)))


def test_false_alarms_keep_the_level() -> None:
    rng = np.random.default_rng(0)
    tests = [permutation_test(cloud(2 * i, 10), cloud(2 * i + 1, 20), 99, rng)[1] for i in range(500)]
    assert 0.06 < np.mean(np.array(tests) <= 0.1) < 0.14  # three standard errors around .1
    assert 0.02 < np.mean(np.array(tests) <= 0.05) < 0.08


def test_identical_points_tie_with_every_permutation() -> None:
    same = torch.ones(9, 4)
    assert permutation_test(same, same, 99, np.random.default_rng(0)) == (0.0, 1.0)


def test_rounding_of_the_encoder_does_not_change_the_p_value() -> None:
    x, y = torch.eye(6).repeat(2, 1), torch.eye(6).repeat(3, 1)  # heavy ties
    noise = 1e-7 * cloud(3, 30, channels=6)
    plain = permutation_test(x, y, 499, np.random.default_rng(1))[1]
    assert permutation_test(x + noise[:12], y + noise[12:], 499, np.random.default_rng(1))[1] == plain


def test_equal_seeds_give_equal_p_values_and_row_order_leaves_the_distance() -> None:
    x, y = cloud(0, 12), cloud(1, 30, shift=0.4)
    first = permutation_test(x, y, 199, np.random.default_rng(5))
    assert permutation_test(x, y, 199, np.random.default_rng(5)) == first
    distance, p_value = permutation_test(x.flip(0), y.flip(0), 199, np.random.default_rng(5))
    assert distance == pytest.approx(first[0], abs=1e-12)
    assert p_value == pytest.approx(first[1], abs=0.1)


def test_slices_of_a_large_problem_draw_the_same_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cloud(0, 12), cloud(1, 30, shift=0.5)
    whole = permutation_test(x, y, 199, np.random.default_rng(5))
    monkeypatch.setattr(energy, "_CHUNK", 42 * 7)
    assert permutation_test(x, y, 199, np.random.default_rng(5)) == whole


# --- the verdict


def test_drift_needs_every_known_task_rejected() -> None:
    window = cloud(0, 20)
    near, far, other = cloud(1, 40), cloud(2, 40, shift=3), cloud(3, 40, shift=-3)
    inside = detect_drift(texts(20), window, {"far": far, "near": near})
    assert (inside.drifted, inside.kind, inside.nearest_task) == (False, "none", "near")
    assert inside.p_value == inside.p_values["near"] > inside.p_values["far"] == 0.001
    outside = detect_drift(texts(20), window, {"far": far, "other": other})
    assert (outside.drifted, outside.kind, outside.p_value) == (True, "domain_transfer", 0.001)
    assert outside.score == min(outside.distances.values())
    assert outside.nearest_task == min(outside.distances, key=lambda name: outside.distances[name])


def test_report_depends_neither_on_the_order_nor_on_other_references() -> None:
    prompts, window = texts(20), cloud(0, 20)
    near, far = cloud(1, 40, shift=0.4), cloud(2, 40, shift=3)
    both = detect_drift(prompts, window, {"near": near, "far": far}, seed=3)
    assert detect_drift(prompts[::-1], window.flip(0), {"far": far, "near": near}, seed=3) == both
    assert detect_drift(prompts, window, {"near": near}, seed=3).p_values["near"] == both.p_values["near"]


def test_repeats_and_blanks_are_left_out_and_reported() -> None:
    prompts = [*texts(12), "Question  NUMBER 3 ", "question number 3", "", " \n"]
    window = torch.cat([cloud(0, 12), cloud(9, 4, shift=-9)])
    report = detect_drift(prompts, window, {"near": cloud(1, 40)})
    clean = detect_drift(texts(12), window[:12], {"near": cloud(1, 40)})
    assert (report.n, report.p_value, report.score) == (12, clean.p_value, clean.score)
    assert any("2 of 16 prompts are blank" in caveat for caveat in report.caveats)
    assert any("2 of 16 prompts (12%) repeat" in caveat for caveat in report.caveats)
    assert clean.caveats == ()


def test_prompts_that_the_encoder_does_not_cover_name_no_task() -> None:
    arabic, near = [f"ما هي عاصمة البلد رقم {i}" for i in range(12)], {"near": cloud(1, 40)}
    report = detect_drift(arabic, cloud(0, 12, shift=9), near)
    assert (report.kind, report.nearest_task, report.drifted) == ("not_covered", None, True)
    assert any("does not cover the script of 12 of 12" in caveat for caveat in report.caveats)
    few = detect_drift([*arabic[:3], *texts(9)], cloud(0, 12), near)
    assert (few.kind, few.nearest_task) == ("none", "near")
    assert any("3 of 12" in caveat for caveat in few.caveats)
    sums = detect_drift([f"{i} + {i} = ?" for i in range(12)], cloud(0, 12), near)
    assert (sums.kind, sums.caveats) == ("none", ())


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_prompts_get_no_verdict_but_what_would_be_enough(n: int) -> None:
    prompts = [*texts(n), *texts(n), *texts(n)]
    report = detect_drift(prompts, cloud(0, 3 * n, shift=9), {"near": cloud(1, 40), "far": cloud(2, 40, shift=9)})
    assert (report.kind, report.p_value, report.drifted, report.n) == ("insufficient", 1.0, False, n)
    assert any("8" in caveat and "enough" in caveat for caveat in report.caveats)
    assert report.p_values == {}
    assert report.nearest_task == ("far" if n else None)


def test_too_few_permutations_for_the_level_are_reported() -> None:
    def caveats(permutations: int) -> str:
        references = {"far": cloud(1, 40, shift=9)}
        return " ".join(detect_drift(texts(20), cloud(0, 20), references, permutations=permutations).caveats)

    assert "no drift can be found" in caveats(9)
    assert "0.01, coarse" in caveats(99)
    assert caveats(999) == ""


@pytest.mark.parametrize(
    "bad", [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": math.nan}, {"seed": -1}, {"permutations": 0}]
)
def test_impossible_numbers_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        detect_drift(texts(9), cloud(0, 9), {"a": cloud(1, 9)}, **bad)  # type: ignore[arg-type]


def test_nothing_to_compare_with_and_broken_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="reference"):
        detect_drift(texts(9), cloud(0, 9), {})
    with pytest.raises(ValueError, match="'known'"):
        detect_drift(texts(9), cloud(0, 9), {"known": cloud(1, 9) * math.nan})
    with pytest.raises(ValueError, match="'window'"):
        detect_drift(texts(9), cloud(0, 9) * math.inf, {"known": cloud(1, 9)})


@given(st.lists(st.text(max_size=3), max_size=14))
@settings(max_examples=60, deadline=None)
def test_any_window_gets_a_finite_report(prompts: list[str]) -> None:
    window = cloud(0, max(len(prompts), 1))[: len(prompts)]
    report = detect_drift(prompts, window, {"a": cloud(1, 9), "b": cloud(2, 9)}, permutations=19)
    assert math.isfinite(report.score)
    assert 1 / 20 <= report.p_value <= 1
    assert report.n == len(distinct(prompts)) <= len(prompts)
    assert (report.kind == "insufficient") == (report.n < 8)


# --- references


class LetterEncoder(Encoder):
    """Letter counts in place of the network, so that the cache can be tested without one."""

    calls = 0
    sha256 = "e" * 64

    def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
        self.calls += 1
        counts = [[float(prompt.count(letter)) for letter in "abcdefgh 0123456789"] for prompt in prompts]
        return torch.nn.functional.normalize(torch.tensor(counts), dim=1)


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LetterEncoder:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LetterEncoder(tmp_path)


def write_lines(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_file_reference_reads_prompts_and_task_lines_up_to_64(tmp_path: Path, letters: LetterEncoder) -> None:
    rows: list[object] = [{"prompt": f"add {i}"} for i in range(50)]
    rows += [{"question": f"bag {i}", "context": f"face {i}", "answer": "x"} for i in range(50)]
    source = write_lines(tmp_path / "mine.jsonl", rows)
    first = load_references([source, source], letters)
    assert list(first) == ["mine"]
    assert first["mine"].shape == (64, 19)
    few = load_references([write_lines(tmp_path / "few.jsonl", [*rows[:9], *rows[:5]])], letters)["few"]
    assert torch.equal(few, letters.embed([f"add {i}" for i in range(9)]))


def test_cache_is_used_and_rebuilt_when_damaged(tmp_path: Path, letters: LetterEncoder) -> None:
    source = write_lines(tmp_path / "mine.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    built = load_references([source], letters)["mine"]
    assert torch.equal(load_references([source], letters)["mine"], built)
    assert letters.calls == 1
    (cached,) = (tmp_path / "cache" / "cao-llm" / "references").iterdir()  # and no temporary file beside it
    whole = cached.read_bytes()
    for damage in (b"", whole[:50], whole[:-4] + b"\x00\x00\x80\x7f", b"\x00" * len(whole)):
        cached.write_bytes(damage)
        assert torch.equal(load_references([source], letters)["mine"], built)
    assert letters.calls == 5
    assert torch.equal(read_reference(cached, letters.sha256), built)


def test_another_encoder_or_other_prompts_never_share_a_cached_reference(
    tmp_path: Path, letters: LetterEncoder
) -> None:
    source = write_lines(tmp_path / "mine.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    load_references([source], letters)
    write_lines(tmp_path / "mine.jsonl", [{"prompt": f"bed {i}"} for i in range(20)])
    load_references([source], letters)
    other = LetterEncoder(tmp_path)
    other.sha256 = "f" * 64
    load_references([source], other)
    assert (letters.calls, other.calls) == (2, 1)
    cached = sorted((tmp_path / "cache" / "cao-llm" / "references").iterdir())
    assert load_references([str(cached[0])], letters)[cached[0].stem].shape == (20, 19)
    with pytest.raises(InputError, match="another encoder"):
        load_references([str(cached[0])], other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "a"}\n{"prompt": \n', r":2: not JSON"),
        ('{"prompt": "a"}\n["b"]\n', r":2: expected an object"),
        ('{"text": "a"}\n', r":1: expected an object"),
        ('{"prompt": 7}\n', r":1: expected a string, found int"),
        ('{"prompt": "\\ud800"}\n', r":1: .*surrogate"),
        ('{"prompt": "a"}\n' * 20, "1 distinct prompts; a reference needs at least 8"),
        ("", "0 distinct prompts"),
    ],
)
def test_unusable_file_reference_is_refused(tmp_path: Path, letters: LetterEncoder, content: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        load_references([str(path)], letters)
    assert letters.calls == 0


def test_unknown_or_clashing_reference_is_refused_before_encoding(tmp_path: Path, letters: LetterEncoder) -> None:
    good = write_lines(tmp_path / "good.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    (tmp_path / "sub").mkdir()
    twin = write_lines(tmp_path / "sub" / "good.jsonl", [{"prompt": f"bed {i}"} for i in range(20)])
    plain = tmp_path / "plain.safetensors"
    save_file({"embeddings": torch.ones(9, 4)}, plain)
    for bad in ("no_such_task", str(tmp_path / "absent.jsonl"), str(tmp_path / "absent.safetensors"), twin, str(plain)):
        with pytest.raises(InputError):
            load_references([good, bad], letters)
    with pytest.raises(InputError, match="no usable reference"):
        read_reference(tmp_path, letters.sha256)
    assert letters.calls == 0


# --- with the real encoder and data


def draw(task: str, n: int) -> list[str]:
    """Support prompts, one of each group."""
    one_of_each = {example.group or example.id: example.prompt for example in part(get_task(task), "support")}
    found = list(one_of_each.values())
    return [found[i] for i in np.random.default_rng(0).choice(len(found), n, replace=False)]


@pytest.mark.integration
def test_conditioning_file_holds_what_the_embeddings_are_pooled_from(tmp_path: Path) -> None:
    encoder, path = Encoder(minilm_folder()), tmp_path / "conditioning.safetensors"
    prompts = ["Why is the sky blue?", "Tom has 12 apples and eats 5 of them. How many are left?"]
    embeddings = condition_task(prompts, encoder, path)
    stored = load_file(path)
    assert stored["conditioning"].shape == (2, 384, 384)
    assert stored["conditioning"].dtype == torch.float32
    assert torch.equal(pool(stored["conditioning"], stored["mask"]), embeddings)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["encoder_sha256"] == encoder.sha256
    assert list(tmp_path.iterdir()) == [path]
    for bad in ([], ["a question", " \n"]):
        with pytest.raises(InputError):
            condition_task(bad, encoder, path)


@pytest.mark.integration
@pytest.mark.slow
def test_mathematics_drifts_from_the_known_tasks_and_their_own_questions_do_not() -> None:
    encoder = Encoder(minilm_folder())
    references = known_references(encoder)
    assert tuple(references) == KNOWN_TASKS
    assert all(rows.shape == (64, 384) for rows in references.values())
    alien = detect_drift(draw("gsm8k", 32), None, references, encoder=encoder)
    assert (alien.kind, alien.p_value) == ("domain_transfer", 0.001)
    for name in ("piqa", "boolq", "winogrande"):
        own = detect_drift(draw(name, 32), None, references, encoder=encoder)
        assert (own.nearest_task, own.kind) == (name, "none")


@pytest.mark.integration
def test_prompts_that_the_encoder_cuts_are_reported() -> None:
    known = {"known": cloud(0, 9, channels=384)}
    report = detect_drift([*texts(7), "word " * 400], None, known, encoder=Encoder(minilm_folder()))
    assert any("1 of 8 prompts are longer than 384 tokens" in caveat for caveat in report.caveats)
