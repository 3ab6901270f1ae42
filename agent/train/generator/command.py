"""The command ``agent.consolidate`` behind its options: train, write the index, install and say what came of it."""

import json
import sys

from agent.train.engine.settings import EngineSettings
from agent.train.generator.index import install, summary, write_index
from agent.train.generator.options import ConsolidateOptions
from agent.train.generator.plan import print_plan
from agent.train.generator.run import consolidate
from agent.train.generator.settings import Settings
from tools.pretrained import index_of


def run_options(options: ConsolidateOptions, engine: EngineSettings, *, as_json: bool, dry_run: bool = False) -> int:
    """Consolidate as the command line asks, or print the plan of it, and return the exit status.

    Args:
        options: what the command line and the file ask for.
        engine: what runs the workers.
        as_json: print the index, else a summary.
        dry_run: print the plan and compute nothing.
    """
    settings = Settings(**dict(options), engine=engine)
    if dry_run:
        print_plan(settings, as_json=as_json)
        return 0
    folder = consolidate(settings)
    index = write_index(settings, folder)
    place = index_of(settings.pretrained)
    if settings.install:
        install(folder, place)
    text = (
        json.dumps(index, indent=2) + "\n" if as_json else summary(folder, place.parent if settings.install else None)
    )
    sys.stdout.write(text)
    return 0
