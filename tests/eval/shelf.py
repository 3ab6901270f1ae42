"""Trained parts of the tiny model that claim to be those of a preset."""

import json
import shutil
from pathlib import Path

from agent.train.generator.presets import PRESETS
from agent.train.generator.variants import variants
from cao.files import opened


def shelf_like(preset: str, shelf: Path, folder: Path, lost: str = "") -> Path:
    """The tiny shelf under the variants of a preset, with one source lost."""
    shutil.copytree(shelf, folder)
    index = json.loads(opened((folder / "index.json").read_text()))
    (models,) = index["models"].values()
    template = models["variants"][0]
    models["variants"] = [
        {
            **template,
            "name": variant.name,
            "sources": [source for source in variant.sources if source != lost],
            "leaves_out": variant.leaves_out,
            "made": {"preset": preset, "seed": 0},
        }
        for variant in variants(PRESETS[preset])
    ]
    (folder / "index.json").write_text(json.dumps(index))
    return folder
