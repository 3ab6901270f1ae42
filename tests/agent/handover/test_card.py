"""What a model card says of the base model."""

from agent.handover.card import card, hub_id
from agent.record.schema import RunRecord
from cao.model.profiles import MODELS
from cao.types import AnswerRule
from tests.agent import run_folders


def told(**config: object) -> RunRecord:
    raw = run_folders.record("a-run")
    return RunRecord.model_validate(raw | {"config": {**raw["config"], "model_path": None, **config}})


def test_a_known_model_is_named_alike_by_its_hub_id() -> None:
    profile = MODELS["smollm2-135m"]
    for name in ("smollm2-135m", profile.source):
        run = told().model_copy(update={"model": name})
        assert hub_id(run) == profile.published
        assert f'license: "{profile.licence}"' in card(run, "adopted", (".",))


def test_a_reward_of_what_was_remade_for_the_test_questions_is_named_so() -> None:
    run = told()
    assert "| reward, this |" in card(run, "adopted", (".",))
    ttl = {"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-4, "batch_size": 2, "shuffle_data": True}
    adopted = run.adopted
    assert adopted is not None
    remade = adopted.model_copy(update={"strategies": ({**ttl, "inputs": "test"},)})
    said = card(run.model_copy(update={"adopted": remade}), "adopted", (".",))
    assert "| reward, what was made for its questions; this was made for the test's |" in said
    assert "| reward, this |" not in said


def test_an_adapter_that_the_deployed_model_carried_is_told() -> None:
    assert "with the adapter my-dora that it carries" in card(told(start_adapter="/x/my-dora"), "adopted", (".",))
    assert "that it carries" not in card(told(), "adopted", (".",))


def test_an_adapter_alone_is_told_by_its_own_figures_under_the_rule_that_is_handed_over() -> None:
    raw = run_folders.record("a-run")
    reward = raw["reward"]["baseline"]
    base, made = ({**reward, "score": score} for score in (0.123, 0.234))
    default = {"rule": AnswerRule().model_dump(), "base": base, "generated": made, "aligned": None}
    raw["reward"] |= {"rules": [default], "generated": {**reward, "score": 0.345}}
    raw["adapters"]["generated"] = {"path": "adapters/a", "sha256": "cd" * 32}
    raw["reward"]["baseline"] = {**reward, "chance": 0.25, "uniform_loss": 1.38629}
    said = card(RunRecord.model_validate(raw), "generated", (".",))
    assert "| guessing | 25.0 % | | 1.3863 | |" in said
    assert "- What it is: the generated adapter" in said
    assert "| reward, deployed model, default answer rule | 12.3 %" in said
    assert "| reward, this, by the same | 23.4 %" in said
    assert "test, this" not in said
    assert "- Accepted: no; nothing says that it is better than the base model." in said

    raw["reward"] |= {"rules": [], "dropped_after": {"generated": 72}}
    assert "| reward, this, as far as it was measured | 34.5 %" in card(
        RunRecord.model_validate(raw), "generated", (".",)
    )
    raw["adopted"]["adapter"]["sha256"] = "cd" * 32
    said = card(RunRecord.model_validate(raw), "generated", (".",))
    assert "- Accepted: the run adopted it as `--what adopted` hands it over" in said


def test_a_copy_of_the_embedded_weights_is_told_from_the_hubs() -> None:
    assert "dequantised; those of the same model on the hub differ" in card(told(), "adopted", (".",))
    other = told().model_copy(update={"model": "qwen2.5-0.5b"})
    assert "dequantised" not in card(other, "adopted", (".",))
