"""References of known tasks: what is read and cached, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.encoder import Encoder
from tests.tools.detect_drift.reference_files import UNIT, forge, write_lines
from tools.detect_drift import reference
from tools.detect_drift.known_tasks import Reference
from tools.detect_drift.reference import known_tasks
from tools.detect_drift.reference_file import read_info, read_reference, write_reference


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
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "shipped")
    return LetterEncoder(tmp_path)


def load(sources: list[str], encoder: Encoder) -> dict[str, Tensor]:
    return {name: it.embeddings for name, it in known_tasks(sources, encoder).references.items()}


def test_file_reference_reads_prompts_and_task_lines_up_to_512(tmp_path: Path, letters: LetterEncoder) -> None:
    rows: list[object] = [{"prompt": f"add {i}"} for i in range(400)]
    rows += [{"question": f"bag {i}", "context": f"face {i}", "answer": "x"} for i in range(400)]
    source = write_lines(tmp_path / "mine.jsonl", rows)
    first = load([source, source], letters)
    assert list(first) == ["mine"]
    assert first["mine"].shape == (512, 19)
    few = load([write_lines(tmp_path / "few.jsonl", [*rows[:9], *rows[:5]])], letters)["few"]
    assert torch.allclose(few, letters.embed([f"add {i}" for i in range(9)]), atol=1e-3)  # kept in half precision


def test_cache_is_used_and_rebuilt_when_damaged(tmp_path: Path, letters: LetterEncoder) -> None:
    source = write_lines(tmp_path / "mine.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    built = load([source], letters)["mine"]
    assert torch.equal(load([source], letters)["mine"], built)
    assert letters.calls == 1
    (cached,) = (tmp_path / "cache" / "cao-llm" / "references").iterdir()  # and no temporary file beside it
    whole = cached.read_bytes()
    for damage in (b"", whole[:50], whole[:-4] + b"\x00\x00\x80\x7f", b"\x00" * len(whole)):
        cached.write_bytes(damage)
        assert torch.equal(load([source], letters)["mine"], built)
    assert letters.calls == 5
    assert torch.equal(read_reference(cached, letters.sha256).embeddings, built)


def test_another_encoder_or_other_prompts_never_share_a_cached_reference(
    tmp_path: Path, letters: LetterEncoder
) -> None:
    source = write_lines(tmp_path / "mine.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    load([source], letters)
    write_lines(tmp_path / "mine.jsonl", [{"prompt": f"bed {i}"} for i in range(20)])
    load([source], letters)
    other = LetterEncoder(tmp_path)
    other.sha256 = "f" * 64
    load([source], other)
    assert (letters.calls, other.calls) == (2, 1)
    cached = sorted((tmp_path / "cache" / "cao-llm" / "references").iterdir())
    assert load([str(cached[0])], letters)[cached[0].stem].shape == (20, 19)
    with pytest.raises(InputError, match="another encoder"):
        load([str(cached[0])], other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "a"}\n{"prompt": \n', r":2: not JSON"),
        ('{"prompt": "a"}\n["b", 3]\n', r":2, prompt 2: expected a string, found int"),
        ('{"body": "a"}\n', r":1: expected an object"),
        ('{"prompt": "a", "correct": 1}\n', r":1: 'correct' must be true or false"),
        ('{"prompt": "a", "choices": ["x"]}\n', r":1: 'choices' must be a list of 2"),
        (
            '{"prompt": "a", "choices": ["x", "y"], "answer": 2}\n',
            r":1: answer 2 is out of range for 2",
        ),
        ('{"prompt": 7}\n', r":1: expected a string, found number"),
        ('{"prompt": "\\ud800"}\n', r":1: .*surrogate"),
        ('{"prompt": "a"}\n' * 20, "1 distinct prompts; a reference needs at least 8"),
        ("", "0 distinct prompts"),
    ],
)
def test_unusable_file_reference_is_refused(tmp_path: Path, letters: LetterEncoder, content: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        load([str(path)], letters)
    assert letters.calls == 0


def test_unknown_or_clashing_reference_is_refused_before_encoding(tmp_path: Path, letters: LetterEncoder) -> None:
    good = write_lines(tmp_path / "good.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    (tmp_path / "sub").mkdir()
    twin = write_lines(tmp_path / "sub" / "good.jsonl", [{"prompt": f"bed {i}"} for i in range(20)])
    plain = tmp_path / "plain.safetensors"
    save_file({"embeddings": torch.ones(9, 4)}, plain)
    for bad in ("no_such_task", str(tmp_path / "absent.jsonl"), str(tmp_path / "absent.safetensors"), twin, str(plain)):
        with pytest.raises(InputError):
            load([good, bad], letters)
    with pytest.raises(InputError, match="damaged or not safetensors"):
        read_reference(tmp_path, letters.sha256)
    assert letters.calls == 0


def test_registered_tasks_are_known_and_the_named_ones_current(tmp_path: Path, letters: LetterEncoder) -> None:
    own = tmp_path / "data" / "cao-llm" / "references"
    for name in ("sums", "tales"):
        rows = letters.embed([f"{name} {i}" for i in range(20)])
        own.mkdir(parents=True, exist_ok=True)
        write_reference(own / f"{name}.safetensors", Reference(rows), letters.sha256, name, ())
    assert (known_tasks((), letters).expected, known_tasks(["sums"], letters).expected) == (
        ("sums", "tales"),
        ("sums",),
    )
    source = write_lines(tmp_path / "tales.jsonl", [{"prompt": f"add {i}"} for i in range(9)])
    mine = known_tasks([source], letters)
    assert (set(mine.names), mine.expected) == ({"sums", "tales"}, ("tales",))
    assert len(mine.references["tales"].embeddings) == 9  # the file given, not the one registered
    (own / "sums.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"sums\.safetensors: damaged or not safetensors"):
        known_tasks((), letters)


def test_outcomes_and_signals_survive_the_file_and_changes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    made = Reference(torch.eye(8), torch.rand(8, 2), torch.arange(8) > 2, "m" * 64)
    write_reference(path, made, "e" * 64, "source", ("g1", "g2"))
    back = read_reference(path, "e" * 64)
    assert back.signals is not None
    assert back.correct is not None
    assert torch.equal(back.embeddings, made.embeddings)
    assert torch.equal(back.signals, made.signals)  # type: ignore[arg-type]
    assert back.correct.tolist() == [False] * 3 + [True] * 5
    assert back.judged_by == "m" * 64
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="was changed"):
        read_reference(path, "e" * 64)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"embeddings": UNIT.bfloat16()}, "embeddings of torch.bfloat16"),
        ({"embeddings": UNIT.long()}, "embeddings of torch.int64"),
        ({"embeddings": UNIT[0]}, "no embeddings of 8 prompts"),
        ({"embeddings": UNIT[:7]}, "no embeddings of 8 prompts"),
        ({"embeddings": UNIT[None]}, "no embeddings of 8 prompts"),
        ({"embeddings": UNIT[:, :0]}, "not finite and of unit length"),
        ({"embeddings": UNIT * 1.02}, "not finite and of unit length"),
        ({"embeddings": UNIT + torch.nan}, "embeddings holds values that are not finite"),
        ({"embeddings": UNIT, "signals": torch.zeros(9)}, "signals that are not two"),
        ({"embeddings": UNIT, "signals": torch.zeros(8, 2)}, "signals that are not two"),
        ({"embeddings": UNIT, "signals": torch.zeros(9, 2).int()}, "signals that are not two"),
        ({"embeddings": UNIT, "signals": torch.zeros(9, 2) - torch.inf}, "signals holds values that are not finite"),
        ({"embeddings": UNIT, "correct": torch.zeros(9)}, "outcomes that are not one"),
        ({"embeddings": UNIT, "correct": torch.zeros(9, 1).bool()}, "outcomes that are not one"),
        ({"embeddings": UNIT, "more": torch.zeros(9)}, "'more', which no reference has"),
    ],
)
def test_content_that_is_no_reference_is_refused(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    path = forge(tmp_path / "a.safetensors", tensors)
    with pytest.raises(InputError, match=f"a.safetensors: .*{reason}"):
        read_reference(path, "e" * 64)
    good = forge(path, {"embeddings": UNIT.half() * 1.005, "signals": torch.zeros(9, 2), "correct": torch.ones(9) > 0})
    assert read_info(good).prompts == 9


def test_references_of_different_widths_are_refused(tmp_path: Path, letters: LetterEncoder) -> None:
    own = tmp_path / "data" / "cao-llm" / "references"
    forge(own / "a.safetensors", {"embeddings": torch.eye(9)})
    forge(own / "b.safetensors", {"embeddings": torch.eye(10)})
    with pytest.raises(
        InputError, match=r"b\.safetensors: its embeddings have 10 numbers, those of .*a\.safetensors 9"
    ):
        known_tasks((), letters)
