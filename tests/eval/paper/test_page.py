"""The page of a table, from made figures."""

from eval.baselines.baseline import Spent
from eval.paper.how_measured import equal_rules
from eval.paper.page import METERED, name_of, page
from eval.paper.pictures import looks
from eval.paper.results import KINDS, Cell, Mean, RowResult, TableResult
from eval.paper.rows import ALL, PAPERS_ALL, ROWS
from tests.eval.paper.made_tables import made_table

IN, _ = KINDS


def row(best: float, default: float, spent: tuple[Spent, Spent]) -> RowResult:
    cells = {
        task: Cell(accuracy=best, ci95=(0, 1), default=default + shift, log_loss=1.0, at_chance=0, seeds=1)
        for task, shift in (("arc_easy", 0.0), ("medqa", 0.2))
    }
    means = {IN: Mean(tasks=("arc_easy", "medqa"), accuracy=best, ci95=(0, 1))}
    return RowResult(cells=cells, absent={}, means=means, spent=spent)


def made() -> TableResult:
    none = Spent(tokens=None, seconds=None)
    rows = {"base": row(0.5, 0.3, (Spent(), Spent())), ALL: row(0.6, 0.4, (none, none))}
    return made_table(("arc_easy", "medqa"), IN, rows=rows, practised=("arc_easy",))


def test_means_are_told_by_the_plain_rule_too() -> None:
    assert "| base model | 2 | 50.0 (0.0–100.0) | 40.0 |" in page(made())


def test_a_task_whose_data_are_not_at_hand_costs_its_figures_alone() -> None:
    """Another task has them: guessing is the mean over those that have."""
    one = made()
    rows = {"base": one.rows["base"].model_copy(update={"absent": {"jama": "no data"}})}
    found = page(one.model_copy(update={"tasks": ("arc_easy", "medqa", "jama"), "rows": rows}))
    assert "2 tasks; guessing 25.0 % on average." in found
    assert "- base model on jama: no data" in found
    assert "## jama" not in found


def test_written_answers_are_told_with_the_share_that_is_parsable() -> None:
    one = made()
    cells = {task: cell.model_copy(update={"parsable": 0.5}) for task, cell in one.rows["base"].cells.items()}
    cells["medqa"] = cells["medqa"].model_copy(update={"parsable": 0.25})
    means = {IN: Mean(tasks=("arc_easy", "medqa"), accuracy=0.2, ci95=(0, 1))}
    base = one.rows["base"].model_copy(update={"cells": cells, "means": means})
    chance = {"arc_easy": 0.25, "medqa": 0.0}
    said = page(one.model_copy(update={"protocol": "generate", "rows": {"base": base}, "chance": chance}))
    assert "| row | tasks | accuracy (95 %) | parsable | right of these |" in said
    assert "| base model | 2 | 20.0 (0.0–100.0) | 38 % | 53 % |" in said
    assert "8 questions; guessing 25.0 %." in said
    assert "8 questions; no choices are shown." in said
    assert "| base model | 50.0 (0.0–100.0) | 50 % | 1 | 0 of 1 |" in said
    assert "| base model | 50.0 (0.0–100.0) | 25 % | 1 |  |" in said  # no guessing, so nothing to be better than


def test_runs_that_took_rules_of_their_own_are_counted() -> None:
    one = made()
    notes = {
        "arc_easy": ("start base; no strategy after 4 attempts",),
        "medqa": ("start base; Calibrate(prior=batch)",),
    }
    cells = {task: cell.model_copy(update={"notes": notes[task]}) for task, cell in one.rows[ALL].cells.items()}
    rows = {**one.rows, ALL: one.rows[ALL].model_copy(update={"cells": cells})}
    said = page(one.model_copy(update={"rows": rows}))
    assert "Calibrate, whose answer rules no other row may choose, was accepted in 1 of 2 whole runs." in said
    assert "Calibrate" not in page(one.model_copy(update={"rows": {"base": one.rows["base"]}}))


def test_tasks_on_which_a_run_learnt_from_the_test_questions_are_named() -> None:
    one = made()
    notes = {"arc_easy": ("start base; TTL(ttl_steps=2, inputs=test) after 1 attempts",), "medqa": ("start base",)}
    cells = {task: cell.model_copy(update={"notes": notes[task]}) for task, cell in one.rows[ALL].cells.items()}
    rows = {**one.rows, ALL: one.rows[ALL].model_copy(update={"cells": cells})}
    said = page(one.model_copy(update={"rows": rows}))
    assert "not on their answers. It was in “CAO-LLM, all stages” on arc_easy. No baseline reads them." in said
    assert "inputs=test`, the paper's Algorithm 2" not in page(one)


def test_what_stands_in_for_a_task_of_the_paper_is_named() -> None:
    assert "without a figure of the paper: medqa for jama." in page(made())
    assert "stand in" not in page(made_table(("arc_easy",), IN, rows={"base": row(0.5, 0.3, (Spent(), Spent()))}))


def test_what_a_whole_run_may_read_of_the_target_is_told() -> None:
    spent = (Spent(tokens=None, seconds=None), Spent(tokens=61_000, seconds=40.0))
    said = page(made_table(("arc_easy", "medqa"), IN, rows={ALL: row(0.6, 0.4, spent)}))
    assert "is bounded by its attempts alone: 61,000 tokens on average, without what" in said


def test_tasks_that_the_policy_knows_are_named() -> None:
    assert "practised choosing them on other questions of arc_easy: its stage 3 is not new to these" in page(made())
    one = made()
    both = one.model_copy(update={"rows": {**one.rows, PAPERS_ALL: one.rows[ALL]}})
    assert "in “CAO-LLM, all stages” and “CAO-LLM, accepting as the paper does” practised" in page(both)


def test_tasks_that_were_learnt_in_other_words_are_named() -> None:
    said = page(
        made_table(("arc_easy", "medqa"), IN, rows={"base": row(0.5, 0.3, (Spent(), Spent()))}, reworded=("medqa",))
    )
    assert "The generator of medqa, and what baselines learnt from, had the same problems with other names" in said
    assert "same problems" not in page(made())


def test_what_nobody_kept_is_not_called_zero() -> None:
    said = page(made())
    assert "| base model | nothing | 0 steps, 0 tokens, 0 s | 0 steps, 0 tokens, 0 s |" in said
    assert f"| CAO-LLM, all stages | {ROWS[ALL].reads} | not kept | not kept |" in said
    assert METERED not in said


def test_what_a_whole_run_read_is_told_with_where_the_counting_ends() -> None:
    spent = (Spent(tokens=None, seconds=None), Spent(tokens=61_000, seconds=40.0))
    said = page(made_table(("arc_easy", "medqa"), IN, rows={ALL: row(0.6, 0.4, spent)}))
    assert "| not kept | 61,000 tokens, 40 s |" in said
    assert METERED in said


def test_what_no_budget_bounds_is_named_beside_the_equal_rules() -> None:
    given, kept = made(), row(0.5, 0.3, (Spent(), Spent()))
    assert "at least" not in equal_rules(given)
    names = {"union_train": kept, "mean": kept, "nearest": kept, "labelled_lora": kept}
    said = equal_rules(given.model_copy(update={"rows": given.rows | names}))
    assert "LoRA on the reward labels reads one epoch with each rate and one with the chosen one at least." in said
    assert said.endswith(": mean of other tasks' checkpoints and nearest source's checkpoint.")


def test_a_title_says_of_which_protocol_and_settings_a_page_is() -> None:
    tops = {
        page(made().model_copy(update={"protocol": protocol, "rules": rules})).splitlines()[0]
        for protocol in ("likelihood", "generate")
        for rules in ("equal", "paper")
    }
    whole = "# Table 2 of the paper, measured here: the method and its baselines"
    written, papers = ", answers written", ", by the papers' own settings"
    assert tops == {whole, whole + written, whole + papers, whole + written + papers}


def test_a_row_that_lacks_a_task_is_drawn_behind_those_that_have_all() -> None:
    """Two others are drawn: the best of those with both tasks, however good a row with one is."""
    rows = made().rows
    half = rows["base"].model_copy(
        update={"cells": {"medqa": rows["base"].cells["medqa"].model_copy(update={"accuracy": 0.9})}}
    )
    one, two = (row(best, 0.3, (Spent(), Spent())) for best in (0.4, 0.6))

    def drawn(**others: RowResult) -> set[str]:
        return looks(made().model_copy(update={"rows": {**rows, **others}})).keys() - {"base", ALL}

    assert drawn(no_meta_train=half) == {"no_meta_train"}
    assert drawn(no_meta_train=half, abmll=one) == {"no_meta_train", "abmll"}
    assert drawn(no_meta_train=half, abmll=one, serl=two) == {"abmll", "serl"}


def test_tables_under_other_rules_do_not_take_each_others_place() -> None:
    names = {name_of("2", protocol, rules) for protocol in ("likelihood", "generate") for rules in ("equal", "paper")}
    assert len(names) == 4
