"""The page of Table 3."""

from eval.paper.adapters.verdicts import one_training


def test_pairs_of_one_training_are_those_that_the_same_generator_serves() -> None:
    served = {"a": "full", "b": "fold-1", "c": "full", "d": "full", "e": "fold-1"}
    assert one_training(("a", "b", "c", "d"), served) == [(0, 2), (0, 3), (2, 3)]
    assert one_training(("b", "e"), served) == [(0, 1)]
    assert one_training((), served) == []
    assert one_training(("a", "unserved", "c", "unknown"), served) == [(0, 2)]
