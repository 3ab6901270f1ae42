"""What the doctor says of the processor; torch is imported only where its rates were never measured."""

from agent.budget.plan import default_run_seconds
from agent.health.checks import Check
from agent.record.wording import count
from cao.errors import CaoError
from cao.machine.compute import choose_compute


def check_compute() -> list[Check]:
    """Measure what the processor does in both dtypes and say what a default run would compute in and take."""
    compute = choose_compute()
    try:
        low, high = default_run_seconds(compute)
        takes = f"; a default run takes about {low:.0f} to {high:.0f} s"
    except CaoError:  # other checks say what is damaged
        takes = ""
    switched = "".join(f"; {name}={value}" for name, value in compute.switched_off.items())
    text = f"{compute.dtype} ({compute.reason}; {count(compute.threads, 'thread')} on {compute.processor}{switched})"
    return [Check("dtype", "ok", f"{text}{takes}")]
