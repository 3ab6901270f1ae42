"""Where the tables of policies, starts and labels are measured: the same situations, kept in one folder.

What one table has scored in a situation no other scores again, nor does a training whose situations they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.config import RunConfig, make_config
from agent.loop.run_folder import locked
from agent.train.policy.options import DEFAULT_HELD_OUT
from agent.train.policy.rollouts import Plan, lay_out
from agent.train.policy.situations import Situation, Wanted
from cao.machine.compute import settled
from cao.model.loading import check_device
from cao.progress import Progress
from eval.options import TablesOptions

SITUATIONS = Path("runs/situations")
"""Where they lie without ``--work``: the folder of ``agent.train_policy`` in its usual place."""


def run_config(options: TablesOptions) -> RunConfig:
    """Return the configuration of the runs that situations stand for; task and seed are the situations' own."""
    asked = {
        "task": tasks_of(options)[0],
        "model": options.model,
        "model_path": options.model_path,
        "profile": options.profile,
        "pretrained": options.pretrained,
        "reward": options.reward,
        "test": options.limit,
        "device": options.device,
        "dtype": settled(options.dtype, options.device),
        "offline": options.offline,
    }
    return make_config(None, asked, [])


def tasks_of(options: TablesOptions) -> tuple[str, ...]:
    """Return the tasks to measure on, without a training that names others."""
    return options.tasks or DEFAULT_HELD_OUT


def wanted_of(options: TablesOptions, tasks: Sequence[str]) -> tuple[Wanted, ...]:
    """Return the situations of a table: every task in each seed, with its usual parts."""
    return tuple(Wanted(task, seed, practice=False) for seed in options.seeds for task in tasks)


def plan_of(options: TablesOptions) -> Plan:
    """Return the plan of the situations that the options name; nothing of it is computed yet.

    Raises:
        InputError: a setting that cannot be used.
    """
    check_device(options.device)
    return Plan(options.work or SITUATIONS, run_config(options), wanted_of(options, tasks_of(options)))


@contextmanager
def laid_out(plan: Plan, progress: Progress) -> Iterator[dict[str, Situation]]:
    """Yield a plan's situations by name while no other process works in their folder.

    Raises:
        InputError: another process does, or a task cannot be used.
        UnavailableError: data or model are not at hand.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder, alone=True):
        yield lay_out(plan, progress)
