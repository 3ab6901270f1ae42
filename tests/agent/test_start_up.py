"""What a run does not wait for: libraries that take long to import and that it does not use."""

import subprocess
import sys

import pytest

UNUSED = ("scipy.stats", "sklearn", "pandas", "datasets", "sentence_transformers", "matplotlib", "openai", "ray")
CODE = """
import sys
from cao.command_line import quiet_libraries
quiet_libraries(offline=True)
from agent import session
from agent.console import PlainView
from cao.assets import minilm_folder
from cao.encoder import Encoder
from tools.detect_drift import detect_drift
from tools.detect_drift.reference import known_tasks
if {detect}:
    encoder = Encoder(minilm_folder())
    prompts = [f"What is {{i}} and {{i}}?" for i in range(8)]
    detect_drift(prompts, encoder.embed(prompts), known_tasks((), encoder), encoder=encoder)
print(*(name for name in {unused} if name in sys.modules))
"""


@pytest.mark.parametrize("detect", [False, pytest.param(True, marks=[pytest.mark.integration, pytest.mark.slow])])
def test_no_library_is_imported_that_a_default_run_does_not_use(detect: bool) -> None:
    code = CODE.format(detect=detect, unused=UNUSED)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.stdout.strip(), ended.returncode) == ("", 0), ended.stderr
