"""Runs that are killed without warning, twice in a row: each ends as one that nothing disturbed."""

import random
from collections.abc import Callable
from pathlib import Path

from agent.run import main
from tests.survival.conftest import Whole
from tests.survival.deaths import Death, lived, moments
from tests.survival.records import same


def resumed(whole: Whole, out: Path, deaths: list[Death]) -> Path:
    """Start a run, have it die and go on again and again, and return its folder once it has ended."""
    for death in [*deaths, Death()]:
        begun = sorted(out.glob("[!.]*")) if out.exists() else []
        more = ["--resume", begun[0].name] if begun else []
        status = lived(main, [*whole.argv, "--out", str(out), *more], death)
    assert status == 0
    [folder] = out.glob("[!.]*")
    return folder


def test_a_kill_at_any_moment_and_another_during_resume(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    tries = many(1, 100)
    kills = list(zip(moments(draw, whole.seconds, tries), moments(draw, whole.seconds, tries), strict=True))
    equal = sum(same(resumed(whole, tmp_path / str(n), list(pair)), whole) for n, pair in enumerate(kills))
    figure(f"kills at random moments, twice in a row: {equal} of {tries} equal")
    assert equal == tries


def test_a_kill_in_every_window_of_a_name(
    whole: Whole, tmp_path: Path, many: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    windows = range(1, whole.windows + 1)
    sides = ("before", "behind")
    every = [Death(window=n, side=side) for n in windows for side in sides]
    step = -(-len(every) // many(2, len(every)))
    chosen = every[step // 2 :: step]
    equal = sum(same(resumed(whole, tmp_path / str(n), [death]), whole) for n, death in enumerate(chosen))
    figure(f"kills before and behind each of {whole.windows} windows: {equal} of {len(chosen)} equal")
    assert equal == len(chosen)
