"""The picture of the imports: rooms, layers and arrows of a tree small enough to see through."""

from pathlib import Path

import pytest

from cao.errors import InputError
from eval.pages.import_graph import against, contracts, layers, order, rooms, sources
from eval.pages.import_picture import boxes, draw

TREE = {
    "agent.run": "from agent.loop import nodes\nfrom cao import errors",
    "agent.loop": "",
    "agent.loop.nodes": "def late():\n    import tools.upper.kernel",
    "tools.upper": "import tools.lower",
    "tools.upper.kernel": "from tools.lower import number",
    "tools.lower": "from tools.upper.kernel import back\nimport torch",
    "cao.errors": "",
}


def test_a_room_is_a_module_or_a_whole_package() -> None:
    files, edges = rooms(TREE)
    assert files == {"agent.run": 1, "agent.loop": 2, "tools.upper": 2, "tools.lower": 1, "cao.errors": 1}
    assert edges == {
        ("agent.run", "agent.loop"): 1,
        ("agent.run", "cao.errors"): 1,
        ("agent.loop", "tools.upper"): 1,
        ("tools.upper", "tools.lower"): 2,
        ("tools.lower", "tools.upper"): 1,
    }


def test_of_a_circle_the_thinner_arrow_is_against_the_order() -> None:
    files, edges = rooms(TREE)
    ranked = order(files, edges, {})
    assert ranked == ["agent.run", "agent.loop", "tools.upper", "tools.lower", "cao.errors"]
    assert against(ranked, edges) == [("tools.lower", "tools.upper")]
    assert layers(ranked, edges) == dict(zip(ranked, range(5), strict=True))


def test_a_contract_decides_before_the_number_of_imports() -> None:
    files, edges = rooms(TREE)
    ranked = order(files, edges, {"tools.lower": 0, "tools.upper": 1})
    assert against(ranked, edges) == [("tools.upper", "tools.lower")]


def test_modules_of_one_layer_share_a_box_and_a_package_has_its_own() -> None:
    made = boxes({"cao.files": 1, "cao.types": 1, "cao.model": 0}, {"cao.files": 1, "cao.types": 1, "cao.model": 14})
    assert [(box.rooms, box.lines) for box in made] == [
        (("cao.model",), ("cao.model", "14 files")),
        (("cao.files", "cao.types"), ("cao: files, types",)),
    ]


def test_the_contracts_of_this_project_are_read() -> None:
    layer = contracts()
    assert layer["tools.evaluate"] < layer["tools.apply_strategy"] < layer["tools.generate_lora"]
    assert layer["agent.run"] < layer["agent.loop"] < layer["agent.config"]


def test_the_picture_says_what_is_against_the_order_and_is_the_same_every_time(tmp_path: Path) -> None:
    assert draw("Toy", TREE, tmp_path / "one.svg") == [("tools.lower", "tools.upper")]
    draw("Toy", TREE, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert "Toy: 1 arrow against the order" in text
    assert "tools.lower → tools.upper" in text
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")


def test_a_commit_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no-such-commit"):
        sources("no-such-commit")
