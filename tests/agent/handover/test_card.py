"""What a model card says of the base model."""

from agent.handover.card import card, hub_id
from agent.record.schema import RunRecord
from cao.model.profiles import MODELS
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
