"""What a kill or an interrupt costs a consolidation: it ends in the same bytes."""

from pathlib import Path

import pytest

from agent.train.clock import Clock
from tests.agent.train.generator.finished import WITHOUT, Ended, Finished, call, content, one_line
from tests.agent.train.generator.tiny_consolidation import FOLDER, command, killed

pytestmark = pytest.mark.slow
KILLS = [
    ("states/arc_easy.safetensors", "encode openbookqa", ("*",)),
    ("variants/full/generator.partial", "generator full", ("validation", "variants")),
    ("validation/openbookqa.json", "validate full", ("validation", "variants")),
    (f"variants/{WITHOUT}/aligner.partial", f"aligner {WITHOUT}", (f"variants/{WITHOUT}",)),
]
"""A file that is there during the work, the work, and what is not made before it."""


@pytest.mark.parametrize(("awaited", "work", "without"), KILLS, ids=[work for _, work, _ in KILLS])
def test_a_killed_consolidation_ends_in_the_same_bytes(
    awaited: str,
    work: str,
    without: tuple[str, ...],
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, argv = finished.copy(tmp_path, *without), command(finished.model, tmp_path)
    assert killed(argv, folder / awaited, work) == -9
    assert (folder / awaited).exists()
    assert not (folder / "index.json").exists()
    heard = heard_of(monkeypatch)
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert content(folder) == content(finished.folder)
    if awaited.endswith(".partial"):  # goes on from there, not from the first step
        assert min(done for label, done in heard if label == work) > 1
    assert not list(folder.rglob("*.partial"))


def heard_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Listen to progress: (label, done)."""
    heard, tell = [], Clock.progress

    def listen(self: Clock, label: str, done: int, total: int) -> None:
        heard.append((label, done))
        tell(self, label, done, total)

    monkeypatch.setattr(Clock, "progress", listen)
    return heard


def test_a_folder_at_work_is_refused_and_a_kill_frees_it(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.copy(tmp_path, "checkpoints", "unions", "validation", "variants")
    argv, awaited = command(finished.model, tmp_path), folder / "checkpoints" / "arc_easy.partial"
    refused: list[Ended] = []
    assert killed(argv, awaited, "checkpoints/arc_easy", lambda: refused.append(call(argv))) == -9
    [ended] = refused
    assert ended.code == 2
    assert f"{FOLDER} is at work in another process" in one_line(ended)
    assert not (folder / "checkpoints" / "arc_easy.safetensors").exists()
    heard = heard_of(monkeypatch)
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert min(done for label, done in heard if label == "checkpoints/arc_easy") > 1
    assert content(folder) == content(finished.folder)


def test_workers_make_the_same_bytes_and_leave_with_a_killed_parent(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "checkpoints", "unions", "validation", "variants")
    argv = command(finished.model, tmp_path, "--workers", "2")
    aligner = folder / "variants" / WITHOUT / "aligner.partial"
    assert killed(argv, aligner, f"aligner {WITHOUT}") == -9
    assert not aligner.with_suffix(".safetensors").exists()
    ended = call(argv)
    assert ended.code == 0, ended.err
    assert content(folder) == content(finished.folder)


def test_an_interrupt_ends_with_130_and_the_same_command_goes_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, argv = finished.copy(tmp_path, "validation", "variants"), command(finished.model, tmp_path)

    def interrupt(self: Clock, label: str, done: int, total: int) -> None:
        if label == "task vectors openbookqa":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "progress", interrupt)
        ended = call(argv)
    assert (ended.code, ended.out, ended.err.splitlines()[-1]) == (130, "", "interrupted")
    assert (folder / "variants" / "full" / "generator.safetensors").exists()
    assert call(argv).code == 0
    assert content(folder) == content(finished.folder)
