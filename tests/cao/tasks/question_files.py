"""The user's own file, written, loaded and refused."""

import json
from pathlib import Path

import pytest

from cao.errors import InputError
from cao.tasks.question_file import load_user_task

GOOD = {"question": "Which flies?", "choices": ["dog", "bird"], "answer": 1}


def written(folder: Path, *lines: object, name: str = "my task.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_user_task(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")
