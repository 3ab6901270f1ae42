"""Verdicts are pure functions of the tables' files."""

import json
from pathlib import Path

import pytest

from cao.errors import InputError
from eval import tables
from eval.baselines.baseline import Spent
from eval.paper.results import KINDS, Cell, Choice, RowResult, TableResult, Versus
from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1, STAGES_1_2
from eval.paper.verdicts.claims import SPARSER, verdicts
from eval.paper.verdicts.page import write_verdicts
from eval.paper.verdicts.verdict import FAILS, HOLDS, UNMEASURED, UNTESTED, Verdict
from tests.eval.paper.made_tables import made_table

IN, OUT = KINDS


def pair(row: str, other: str, gain: float, kind: str = OUT, holm: float = 0.01) -> Versus:
    ci95 = (gain - 0.01, gain + 0.01)
    return Versus(row=row, other=other, kind=kind, tasks=("a", "b"), accuracy=gain, ci95=ci95, p_value=holm, holm=holm)


def cell(default: float) -> Cell:
    return Cell(accuracy=0.5, ci95=(0, 1), default=default, log_loss=1.0, at_chance=0, seeds=1)


def table(
    number: str, *pairs: Versus, choice: Choice | None = None, model: str = "0" * 64, **absent: str
) -> TableResult:
    known = {name for one in pairs for name in (one.row, one.other)} | set(absent)
    read = Spent(steps=9, tokens=0 if "labelled_lora" in known else 10), Spent(steps=1, tokens=5)
    reasons = {name: {"a": absent[name]} if name in absent else {} for name in known}
    cells = {name: {} if name in absent else dict.fromkeys("ab", cell(0.4 if name == ALL else 0.5)) for name in known}
    rows = {name: RowResult(cells=cells[name], absent=reasons[name], means={}, spent=read) for name in known}
    told = {"table": number, "command": f"python -m eval.tables --table {number}", "model_sha256": model}
    return made_table(("a", "b"), OUT, rows=rows, versus=pairs, choice=choice, **told)


def said(found: list[Verdict], claim: str) -> Verdict:
    return next(one for one in found if one.claim == claim)


def test_without_tables_nothing_is_measured_and_each_claim_has_its_command() -> None:
    found = verdicts({}, "tiny", {})
    assert {one.verdict for one in found} == {UNMEASURED}
    assert said(found, "CAO-LLM is better than MAML-en-LLM, in domain").command.startswith(
        "python -m eval.tables --table 2 --model tiny"
    )
    assert len(found) > 25


def test_a_baseline_is_beaten_where_interval_and_corrected_p_say_so() -> None:
    better, unsure = pair(ALL, "maml", 0.05), pair(ALL, "abmll", 0.05, holm=0.2)
    found = verdicts({"2": table("2", better, unsure, serl="trl is not installed")}, "tiny", {})
    assert said(found, f"CAO-LLM is better than MAML-en-LLM, {OUT}").verdict == HOLDS
    read = "it read 100.0% of the tokens that generator and aligner read"  # what was spent, and not what was allowed
    reason = said(found, f"CAO-LLM is better than MAML-en-LLM, {OUT}").reason
    assert reason.endswith(f"{read}; its learning rate was not searched for")
    assert said(found, f"CAO-LLM is better than ABMLL, {OUT}").verdict == FAILS
    serl = said(found, f"CAO-LLM is better than SeRL, {OUT}")
    assert (serl.verdict, serl.reason) == (UNTESTED, "SeRL: trl is not installed")


def test_what_limits_a_baseline_is_said_beside_its_verdict() -> None:
    found = verdicts({"2": table("2", pair(ALL, "labelled_lora", 0.05), pair(ALL, "seal", 0.05))}, "tiny", {})
    one = said(found, f"CAO-LLM is better than LoRA on the reward labels, {OUT}")
    share = "its share of 10% of the generator's and the aligner's tokens, at most, but one epoch with each rate"
    assert share in one.reason
    assert one.reason.endswith("; its learning rate was not searched for")  # it chooses among those of the table: one
    assert "was not searched for" not in said(found, f"CAO-LLM is better than SEAL's kind, {OUT}").reason  # it writes


@pytest.mark.parametrize("row", ["mean", "nearest"])
def test_no_budget_is_told_of_what_was_made_before(row: str) -> None:
    found = verdicts({"2": table("2", pair(ALL, row, 0.05))}, "tiny", {})
    (one,) = [one for one in found if one.verdict == HOLDS]
    assert one.reason == "2 tasks; by the plain rule -10.0"


def test_a_baseline_that_hardly_took_a_step_is_called_next_to_nothing() -> None:
    made = table("2", pair(ALL, "serl", 0.05))
    short = made.rows["serl"].model_copy(update={"spent": (Spent(steps=0, tokens=0), Spent(steps=2, tokens=20))})
    found = verdicts({"2": made.model_copy(update={"rows": {**made.rows, "serl": short}})}, "tiny", {})
    told = "it took 2 steps on average, which tests next to nothing of it"
    assert told in said(found, f"CAO-LLM is better than SeRL, {OUT}").reason
    whole = verdicts({"2": made}, "tiny", {})
    assert "next to nothing" not in said(whole, f"CAO-LLM is better than SeRL, {OUT}").reason


def test_a_row_that_was_left_out_is_not_measured_yet() -> None:
    seal = said(
        verdicts({"2": table("2", pair(ALL, "maml", 0.05))}, "tiny", {}), f"CAO-LLM is better than SEAL's kind, {OUT}"
    )
    assert (seal.verdict, seal.command) == (UNMEASURED, "python -m eval.tables --table 2 --model tiny --preset quick")


@pytest.mark.parametrize(("gain", "verdict"), [(-0.05, HOLDS), (0.05, FAILS), (-0.005, FAILS)])
def test_stage_1_hurts_where_it_is_surely_worse(gain: float, verdict: str) -> None:
    found = verdicts({"6": table("6", pair(STAGE_1, "base", gain))}, "tiny", {})
    assert said(found, "stage 1 alone hurts out of domain").verdict == verdict


def test_all_stages_are_needed_where_each_gains() -> None:
    steps = [pair(STAGE_1, "base", 0.1), pair(STAGES_1_2, STAGE_1, 0.1), pair(ALL, STAGES_1_2, 0.1)]
    claim = f"all three stages are needed, {OUT}"
    assert said(verdicts({"6": table("6", *steps)}, "tiny", {}), claim).verdict == HOLDS
    worse = [*steps[:2], pair(ALL, STAGES_1_2, 0.0)]
    assert said(verdicts({"6": table("6", *worse)}, "tiny", {}), claim).verdict == FAILS
    lacking = table("6", steps[0], cao_stages_1_2="no aligner", cao_all="no aligner")
    assert said(verdicts({"6": lacking}, "tiny", {}), claim).verdict == UNTESTED


def test_families_differ_where_choosing_by_task_gains() -> None:
    claim = "families of strategies differ by task"
    for low, verdict in ((0.01, HOLDS), (-0.01, FAILS)):
        choice = Choice(best={"a": "family_TTL", "b": "family_TTS"}, single="family_TTL", gain=0.03, ci95=(low, 0.05))
        assert said(verdicts({"5": table("5", choice=choice)}, "tiny", {}), claim).verdict == verdict
    lacking = table("5", choice=choice, family_LORA="there is no adapter to mix")
    lacking = lacking.model_copy(update={"n": {"a": 8}})
    reason = said(verdicts({"5": lacking}, "tiny", {}), claim).reason
    assert reason == "2 families are best somewhere on 2 tasks; without LORA alone, which has no figure on 1"
    assert said(verdicts({"5": table("5")}, "tiny", {}), claim).verdict == UNTESTED


def test_a_gain_of_written_answers_is_told_with_the_shares_that_are_parsable() -> None:
    one = table("2", pair(ALL, "base", 0.05))
    rows = dict[str, RowResult]()
    for name, share in ((ALL, 0.9), ("base", 0.3)):
        cell = Cell(accuracy=0.5, ci95=(0, 1), default=0.5, log_loss=1.0, at_chance=0, seeds=1, parsable=share)
        rows[name] = one.rows[name].model_copy(update={"cells": dict.fromkeys(("a", "b"), cell)})
    found = verdicts({"2": one.model_copy(update={"rows": rows, "protocol": "generate"})}, "tiny", {})
    claim = said(found, f"CAO-LLM is better than base model, {OUT}")
    assert claim.reason == "2 tasks; 90% of its answers are parsable, 30% of the other's"


def test_other_tables_judge_their_own_claims() -> None:
    own = Verdict(claim=SPARSER, verdict=HOLDS, figure="+1", command="a command", reason="6 tasks")
    assert said(verdicts({}, "tiny", {"4": [own]}), SPARSER) == own
    assert said(verdicts({}, "tiny", {"4": [own]}), SPARSER).command == "a command"


def test_runs_that_accept_as_the_paper_does_have_claims_where_they_were_measured() -> None:
    claim = f"CAO-LLM, accepting as the paper does, is better than MAML-en-LLM, {OUT}"
    found = verdicts({"2": table("2", pair(ALL, "maml", -0.05), pair(PAPERS_ALL, "maml", 0.05))}, "tiny", {})
    assert said(found, claim).verdict == HOLDS
    assert said(found, f"CAO-LLM is better than MAML-en-LLM, {OUT}").verdict == FAILS
    assert "as the paper does" not in str(verdicts({"2": table("2", pair(ALL, "maml", 0.05))}, "tiny", {}))
    steps = pair(ALL, STAGES_1_2, -0.05), pair(PAPERS_ALL, STAGES_1_2, 0.05)
    stages = verdicts({"6": table("6", *steps)}, "tiny", {})
    assert said(stages, f"stage 3, accepting as the paper does, gains over stages 1 and 2, {OUT}").verdict == HOLDS
    assert said(stages, f"stage 3 gains over stages 1 and 2, {OUT}").verdict == FAILS


def test_the_page_is_written_from_the_files(tmp_path: Path) -> None:
    one = table("6", pair(STAGE_1, "base", -0.05))
    (tmp_path / "table6.json").write_text(one.model_dump_json())
    own = {"claim": SPARSER, "verdict": FAILS, "figure": "-1", "command": "c", "reason": "r"}
    (tmp_path / "table4.json").write_text(json.dumps({"model_sha256": "0" * 64, "model": "tiny", "verdicts": [own]}))
    known = {"measured": "2026-01-02", "dtype": "float32", "seeds": [0, 1], "code": "1" * 64}
    of_cost = {"model_sha256": "0" * 64, "model": "tiny", "verdicts": [], **known}
    (tmp_path / "cost.json").write_text(json.dumps(of_cost))
    text = write_verdicts(tmp_path)[1].read_text()
    assert "| stage 1 alone hurts out of domain | **holds here** | -5.0 (-6.0 to -4.0) points, p 0.010 |" in text
    assert f"| {SPARSER} | **does not hold here** | -1 | r | `c` |" in text
    assert "families hold by the 95 % interval alone, without a correction; that of cost by exponents" in text
    assert "- Table 6: 2026-01-01, float32, a machine, preset `quick`, seeds 0" in text
    assert "runs by `--accept confident`, " in text
    assert "- Table 4: day unknown, dtype unknown, seeds unknown, the version of the code was not recorded\n" in text
    assert "- `--table cost`: 2026-01-02, float32, seeds 0, 1\n" in text
    both = table("6", pair(PAPERS_ALL, STAGES_1_2, 0.05)).model_dump_json()
    (tmp_path / "table6.json").write_text(both)
    assert "runs by `--accept confident` and by `--accept any`, " in write_verdicts(tmp_path)[1].read_text()


def test_comparisons_that_the_paper_does_not_make_stand_apart(tmp_path: Path) -> None:
    one = table("2", pair(ALL, "maml", 0.05), pair(ALL, "seal", 0.05))
    found = verdicts({"2": one}, "tiny", {})
    beyond = {one.claim for one in found if one.beyond}
    assert f"CAO-LLM is better than SEAL's kind, {OUT}" in beyond
    assert f"CAO-LLM is better than No-Meta-Train, {OUT}" in beyond  # the paper has no figure of it there
    assert not {f"CAO-LLM is better than No-Meta-Train, {IN}", f"CAO-LLM is better than MAML-en-LLM, {OUT}"} & beyond
    (tmp_path / "table2.json").write_text(
        table("2", pair(ALL, "maml", 0.05), pair(ALL, "seal", 0.05)).model_dump_json()
    )
    papers, others = write_verdicts(tmp_path)[1].read_text().split("## Comparisons that the paper does not make")
    assert f"| CAO-LLM is better than MAML-en-LLM, {OUT} | **holds here** |" in papers
    assert f"| CAO-LLM is better than SEAL's kind, {OUT} | **holds here** |" in others
    assert "seal" not in papers.lower()


def test_written_answers_have_verdicts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "table2.json").write_text(table("2", pair(ALL, "maml", 0.05)).model_dump_json())
    written = table("2", pair(ALL, "maml", -0.05)).model_copy(update={"protocol": "generate"})
    (tmp_path / "table2-generate.json").write_text(written.model_dump_json())
    found, page = write_verdicts(tmp_path, "generate")
    text = page.read_text()
    assert page.name == "verdicts-generate.md"
    claims = {one.claim: one.verdict for one in found}  # and nothing is listed that was not measured so
    better = "CAO-LLM is better than MAML-en-LLM"
    assert claims == {f"{better}, {IN}": UNTESTED, f"{better}, {OUT}": FAILS}
    assert f"| CAO-LLM is better than MAML-en-LLM, {OUT} | **does not hold here** | -5.0 (-6.0 to -4.0)" in text
    assert "a program reads them" in text
    assert "not make" not in text
    assert f"| CAO-LLM is better than MAML-en-LLM, {OUT} | **holds here** |" in write_verdicts(tmp_path)[1].read_text()


def test_what_is_not_measured_is_asked_for_as_the_measured_table_was(tmp_path: Path) -> None:
    one = table("2", pair(ALL, "maml", 0.05)).model_copy(
        update={"command": "python -m eval.tables --table 2 --model 'a b.gguf' --consolidation runs/c --offline"}
    )
    (tmp_path / "table2.json").write_text(one.model_dump_json())
    text = write_verdicts(tmp_path)[1].read_text()
    asked = "--model 'a b.gguf' --consolidation runs/c"
    assert f"`python -m eval.tables --table 6 {asked} --preset quick`" in text
    assert f"`python -m eval.tables --table figures {asked}`" in text


def test_tables_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "table6.json").write_text(table("6").model_dump_json())
    (tmp_path / "table2.json").write_text(table("2", model="1" * 64).model_dump_json())
    with pytest.raises(InputError, match="several models"):
        write_verdicts(tmp_path)


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "table6.json").write_text('{"table": "6"}')
    with pytest.raises(InputError, match=r"table6\.json: not a table of this version"):
        write_verdicts(tmp_path)


def test_verdicts_can_be_given_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table6.json").write_text(table("6", pair(STAGE_1, "base", -0.05)).model_dump_json())
    assert tables.main(["--table", "verdicts", "--out", str(tmp_path), "--json"]) == 0
    found = [Verdict.model_validate(one) for one in json.loads(capsys.readouterr().out)]
    assert said(found, "stage 1 alone hurts out of domain").verdict == HOLDS
    assert (tmp_path / "verdicts.md").is_file()
