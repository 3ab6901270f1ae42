"""The four tables of adapters behind their names: opened, measured, written.

Cells lie in ``work/`` of the folder that the page is written to, which one process at a time works in.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from agent.loop.run_folder import locked
from agent.train.generator.presets import REPORTED
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.progress import Progress
from eval.code import code_of
from eval.kept import Kept
from eval.options import TablesOptions
from eval.paper.adapters import cost, figures, table3, table4
from eval.paper.adapters.meta import Meta
from eval.paper.adapters.pages.write import write_page
from eval.paper.adapters.results import Setting
from eval.paper.adapters.stock import Stock
from eval.paper.cells.sources import open_workshop, trained_parts
from eval.paper.measure import home

Table = Callable[[Mapping[str, object], Stock, TablesOptions, Sequence[str], Progress], Setting]

TABLES: dict[str, Table] = {"3": table3.result, "4": table4.result, "figures": figures.result, "cost": cost.result}
"""Name → the measurement; the module that it is of, with all that this imports, is the code that its cells are of."""


def measure(options: TablesOptions, command: str, progress: Progress) -> tuple[Setting, Path]:
    """Measure a table, write its page and return both.

    Args:
        options: what is measured.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: a task or a folder that cannot be used, or another process works in it.
        UnavailableError: the model is not at hand.
    """
    lm = load_model(options)
    out, tasks = options.out or home(options), options.tasks or REPORTED
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, alone=True):
        stock = opened(lm, work, options, command, progress)
        setting = {
            "command": command,
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "model": lm.profile.name,
            "model_sha256": lm.sha256,
            "device": options.device,
            "dtype": lm.dtype,
            "fingerprint": stock.kept.fingerprint(),
            "code": code_of(TABLES[options.table].__module__),
            "generators": _generators(stock, tasks),
            "seeds": options.seeds,
            "tasks": tuple(tasks),
        }
        result = TABLES[options.table](setting, stock, options, tasks, progress)
    return result, write_page(result, out)


def opened(lm: LanguageModel, work: Path, options: TablesOptions, command: str, progress: Progress) -> Stock:
    """Return what makes the adapters, with the cells of a folder."""
    code = code_of(TABLES[options.table].__module__)
    about: dict[str, object] = {"code": code, "model": lm.sha256, "device": options.device, "dtype": lm.dtype}
    set_over = options.profile.model_dump(mode="json", exclude_none=True)
    kept = Kept(work, about | ({"profile": set_over} if set_over else {}))
    shared = options.work or home(options) / "work"
    encoder = partial(Encoder, minilm_folder(), lm.device)
    meta = Meta(lm, lambda: open_workshop(options, shared, lm, encoder, progress), options.maml_tokens, progress)
    return Stock(lm, kept, trained_parts(options), meta, command)


def _generators(stock: Stock, tasks: Sequence[str]) -> dict[str, str]:
    """Return variant → hash of the generators that serve the tasks; none where nothing was trained."""
    return {variant: stock.generator(task).sha256 for task, variant in stock.served(tasks).items()}
