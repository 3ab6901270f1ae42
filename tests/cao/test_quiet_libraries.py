"""What libraries would say on the terminal, provoked in a process of its own, with and without our switches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROVOKE = {
    "a bar of transformers": """
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1])
""",
    "a tokenizer's warning of a long text": """
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], model_max_length=8)
tokenizer.encode("a long text, " * 9)
""",
    "a warning of what will change in transformers": """
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1]).is_gradient_checkpointing
""",
    "a bar of datasets": """
import datasets
datasets.Dataset.from_dict({"a": [1, 2]}).map(lambda row: row)
""",
}


def stderr_of(code: str, folder: Path, *, quiet: bool) -> str:
    switches = "from cao.command_line import quiet_libraries; quiet_libraries(offline=True)\n" if quiet else ""
    command = [sys.executable, "-c", f"import sys\n{switches}{code}", str(folder)]
    unset = ("TRANSFORMERS_", "HF_HUB_", "HF_DATASETS_")  # a test before may have asked for quiet in this process
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=clean)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", PROVOKE)
def test_libraries_say_nothing_after_we_asked_them_not_to(what: str, tiny_model_folder: Path) -> None:
    assert stderr_of(PROVOKE[what], tiny_model_folder, quiet=False) != ""
    assert stderr_of(PROVOKE[what], tiny_model_folder, quiet=True) == ""
