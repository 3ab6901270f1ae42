"""What the doctor says of the processor; torch is imported only where its rates were never measured."""

from agent.budget.plan import default_run_seconds
from agent.health.checks import Row
from cao.machine.compute import choose_compute


def check_compute() -> list[Row]:
    """Measure what the processor does in both dtypes and say what a default run would compute in and take."""
    found = choose_compute()
    low, high = default_run_seconds(found)
    switched = "".join(f"; {name}={value}" for name, value in found.switched_off.items())
    told = f"{found.dtype} ({found.reason}; {found.threads} threads on {found.processor}{switched})"
    return [Row("dtype", "ok", f"{told}; a default run takes about {low:.0f} to {high:.0f} s")]
