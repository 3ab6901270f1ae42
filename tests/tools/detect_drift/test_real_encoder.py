"""The verdicts with the real encoder and data, and what the encoder does not see."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.tasks import get_task
from cao.tasks.prompt_file import Asked
from cao.tasks.prompt_text import is_foreign
from cao.tasks.splits import part
from tests.tools.detect_drift.clouds import cloud, tasks, texts
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.reference import IN_DOMAIN, REFERENCE_PROMPTS, SHIPPED, draw_prompts, group_hashes, known_tasks
from tools.detect_drift.reference_file import read_info, read_reference


def draw(task: str, n: int) -> list[str]:
    """Support prompts, one of each group."""
    one_of_each = {example.group or example.id: example.prompt for example in part(get_task(task), "support")}
    found = list(one_of_each.values())
    return [found[i] for i in np.random.default_rng(0).choice(len(found), n, replace=False)]


@pytest.mark.integration
def test_mathematics_drifts_from_the_known_tasks_and_their_own_questions_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    encoder = Encoder(minilm_folder())
    known = known_tasks((), encoder)
    assert known.names == IN_DOMAIN
    alien = detect_drift(draw("gsm8k", 32), None, known, encoder=encoder)
    assert alien.kind == "domain_transfer"
    assert alien.p_value <= 0.005
    own = [detect_drift(draw(name, 32), None, known, encoder=encoder) for name in ("piqa", "boolq", "winogrande")]
    assert [report.nearest_task for report in own] == ["piqa", "boolq", "winogrande"]
    assert sum(report.drifted for report in own) <= 1  # each is a false alarm with probability .05
    assert min(report.p_value for report in own) > 0.005
    mixed = detect_drift([*draw("piqa", 24), *draw("boolq", 8)], None, known, encoder=encoder)
    assert mixed.kind == "covariate"
    assert mixed.shares["boolq"] == pytest.approx(0.25, abs=0.1)


@pytest.mark.integration
def test_shipped_references_hold_no_question_of_another_part_and_come_from_this_encoder() -> None:
    encoder = Encoder(minilm_folder())
    for name in IN_DOMAIN:
        path = SHIPPED / f"{name}.safetensors"
        reference, info = read_reference(path, encoder.sha256), read_info(path)
        train = [Asked(example.prompt, example) for example in part(get_task(name), "train")]
        assert set(info.groups) <= set(group_hashes(train))
        assert 256 <= len(reference.embeddings) == info.prompts == len(set(info.groups)) <= REFERENCE_PROMPTS
        drawn = draw_prompts(name)
        rows = encoder.embed([one.prompt for one in drawn[:4]])
        assert torch.allclose(reference.embeddings[:4], rows, atol=1e-3)
        assert reference.signals is not None
        assert reference.correct is not None


@pytest.mark.integration
def test_prompts_that_the_encoder_cuts_are_reported() -> None:
    known = tasks(known=cloud(0, 9, channels=384))
    report = detect_drift([*texts(7), "word " * 400], None, known, encoder=Encoder(minilm_folder()))
    assert any("1 of 8 prompts are longer than 384 tokens" in caveat for caveat in report.caveats)


@pytest.mark.parametrize(
    ("prompt", "foreign"),
    [
        ("Which of these animals can fly?", False),
        ("12 + 30", False),
        ("Ça va, naïve façade?", False),
        ("???", True),
        ("🎉🎉 🎉", True),
        ("∑∑ ∏", True),
        ("Please answer this question carefully: 今天的天气怎么样", True),
        ("The word 猫 means cat in this language", False),
        ("ما هي عاصمة مصر", True),
    ],
)
def test_foreign_is_what_the_encoder_was_not_trained_on(prompt: str, foreign: bool) -> None:
    assert is_foreign(prompt) == foreign


def test_prompts_that_the_encoder_cannot_tell_apart_count_once() -> None:
    hidden = [f"one prompt{chr(0x200B) * k}" for k in range(16)]
    report = detect_drift(hidden, cloud(0, 16), tasks(a=cloud(1, 80)))
    assert (report.kind, report.n, report.duplicate_rate) == ("insufficient", 1, 15 / 16)
    same = cloud(0, 1).repeat(16, 1)  # texts that differ behind the encoder's last token
    report = detect_drift(texts(16), same, tasks(a=cloud(1, 80)))
    assert (report.kind, report.n, report.duplicate_rate) == ("insufficient", 1, 15 / 16)


def test_feedback_is_compared_with_the_expected_task_unless_the_prompts_moved() -> None:
    near, far = cloud(1, 200), cloud(2, 200, shift=0.8)
    known = KnownTasks(
        {
            "near": Reference(near, correct=torch.arange(200) % 2 == 0),
            "far": Reference(far, correct=torch.zeros(200, dtype=torch.bool)),
        },
        ("near",),
    )
    for seed in range(40):
        window = cloud(100 + seed, 16, shift=0.25)
        report = detect_drift(texts(16), window, known, correct=[True, False] * 8)
        assert report.feedback is not None
        if not report.drifted:
            assert report.feedback.task == "near"
            assert "near" in report.not_rejected
            assert "cannot be told from near (" in report.sentence
