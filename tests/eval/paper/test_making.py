"""What a generator's training reads, from which the baselines' budget follows."""

import pytest

from agent.train.generator.presets import PRESETS
from eval.paper.making import share_of_contrasts


def test_a_step_compares_prompts_where_that_is_due_and_no_task_is_drawn_without_them() -> None:
    training = PRESETS["wide"].generator
    assert (training.tasks, training.unprompted, training.contrast_every) == (2, 0.1, 1)
    assert share_of_contrasts(training) == pytest.approx(0.9 * 0.9)
    rarer = training.model_copy(update={"contrast_every": 4, "unprompted": 0.0})
    assert share_of_contrasts(rarer) == 0.25
