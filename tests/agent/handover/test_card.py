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


def test_an_adapter_that_the_deployed_model_carried_is_told() -> None:
    assert "with the adapter my-dora that it carries" in card(told(start_adapter="/x/my-dora"), "adopted", (".",))
    assert "that it carries" not in card(told(), "adopted", (".",))
