"""Which number format a process computes in: measured on the processor at hand, not read from its flags.

bfloat16 is twice as fast as float32 on processors with instructions for it and eight times slower on those without.
Capability flags have been wrong both ways, so products of the sizes in use are timed once, for .2 s at most, and the
rates are kept for each kind of processor, version of torch and number of threads. The encoder, the generators and the
aligners compute in float32 everywhere: what they are compared with was made so, and they are a small part of a run.
"""

import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field

from cao.errors import InputError
from cao.files import canonical_json, opened, sealed, sha256_bytes, write_json
from cao.machine.assets import cache_dir
from cao.machine.processor import compute_threads, processor_lines, processor_name, switched_off
from cao.types import Dtype, DtypeChoice, Record

DTYPES: tuple[DtypeChoice, ...] = get_args(DtypeChoice)

PROBE_SECONDS = 0.12
"""When no further round is begun: a round of slow products takes .05 s, and the first one is for warming up."""
NOISY = 1.5
"""Median over least time of the rounds from which on other load is taken to have disturbed them."""
LEAST_SHARE = 0.8
"""Share of the processors' time below which the products did not have them to themselves."""
MARGIN = 1.15
"""bfloat16 has to be this many times as fast: where both are alike, the more exact one is better."""


class Rates(Record):
    """What a processor does, in operations a second.

    Attributes:
        float32: the better of the rounds.
        bfloat16: the better of the rounds.
        least_gain: how many times as fast bfloat16 was as float32, in the round that says least for it.
        noisy: whether other load disturbed the measurement.
    """

    float32: Annotated[float, Field(gt=0)]
    bfloat16: Annotated[float, Field(gt=0)]
    least_gain: Annotated[float, Field(gt=0)]
    noisy: bool

    @property
    def faster(self) -> Dtype:
        """What to compute in: after a disturbed measurement bfloat16 only where it won every round."""
        gain = self.least_gain if self.noisy else self.bfloat16 / self.float32
        return "bfloat16" if gain > MARGIN else "float32"

    def sentence(self) -> str:
        """Return the rates in words."""
        beside = ", measured beside other load" if self.noisy else ""
        told = f"bfloat16 {self.bfloat16 / 1e9:.0f} GFLOP/s, float32 {self.float32 / 1e9:.0f} GFLOP/s{beside}"
        if self.faster == "float32" and self.bfloat16 > self.float32:
            told += f"; not {MARGIN:g} times as fast{' in every round' if self.noisy else ''}"
        return told


class Compute(Record):
    """What a process computes with, and why.

    Attributes:
        dtype: the language model's number format.
        device: torch device.
        threads: torch's threads.
        processor: its name.
        switched_off: environment variables that keep libraries from some of its instructions.
        rates: measured on the processor; None on another device.
        reason: what the choice ``auto`` goes by, in a few words.
    """

    dtype: Dtype
    device: str = "cpu"
    threads: int
    processor: str
    switched_off: dict[str, str] = Field(default_factory=dict)
    rates: Rates | None = None
    reason: str = ""


def choose_compute(asked: DtypeChoice = "auto", device: str = "cpu") -> Compute:
    """Return what to compute with.

    Args:
        asked: a dtype, or ``auto`` for the faster one here.
        device: torch device, which is there.

    Raises:
        InputError: no such dtype, or the device cannot compute in it.
    """
    if asked not in DTYPES:
        raise InputError(f"unknown dtype {asked!r}; known: {', '.join(DTYPES)}")
    rates = None
    if device == "cpu":
        rates = processor_rates()
        dtype, reason = rates.faster, rates.sentence()
    else:
        able = device_has_bfloat16(device)
        dtype, reason = ("bfloat16", f"{device} has bfloat16") if able else ("float32", f"{device} has no bfloat16")
        if asked == "bfloat16" and not able:
            raise InputError(f"{device} cannot compute in bfloat16; run with --dtype float32 (or auto)")
    return Compute(
        dtype=dtype if asked == "auto" else asked,
        device=device,
        threads=compute_threads(),
        processor=processor_name(),
        switched_off=switched_off(),
        rates=rates,
        reason=reason,
    )


def settled(asked: DtypeChoice, device: str, begun: object = None) -> Dtype:
    """Return the dtype for work that may go on on another machine: it stays what it was begun with.

    Args:
        asked: what the command says.
        device: torch device.
        begun: what the work's folder says, None where it is new.

    Raises:
        InputError: the device cannot compute in it.
    """
    kept = next((name for name in DTYPES if name == begun and name != "auto"), asked)
    return choose_compute(kept if asked == "auto" else asked, device).dtype


def device_has_bfloat16(device: str) -> bool:
    """Return whether an accelerator computes in bfloat16 itself, not by emulation.

    Args:
        device: ``cuda``, ``cuda:N`` or ``mps``.
    """
    import torch  # noqa: PLC0415  (a second; rates that are kept need none)

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.backends.mps.is_macos_or_newer(14, 0))


def probe_key() -> dict[str, str]:
    """Return everything that the rates depend on."""
    return {
        **processor_lines(),
        **switched_off(),
        "torch": version("torch"),
        "threads": str(compute_threads()),
    }


def processor_rates() -> Rates:
    """Return the processor's rates: those kept from an earlier process, or measured now.

    After a measurement beside other load the next process measures again; what is kept gives way to an undisturbed one
    only, so that a busy machine does not choose anew in each process. A file that is damaged, or that another processor
    wrote, is measured over.
    """
    key = canonical_json(probe_key())
    kept = _kept(key)
    if kept and not kept.noisy:
        return kept
    rates = measure_rates()
    if kept and rates.noisy:
        return kept
    keep_rates(rates, key)
    return rates


def keep_rates(rates: Rates, key: str) -> None:
    """Keep rates for every process with this key."""
    path = _path(key)
    path.parent.mkdir(exist_ok=True)
    write_json(path, sealed(_File(key=key, rates=rates).model_dump(mode="json")))


def _path(key: str) -> Path:
    return cache_dir() / "rates" / f"{sha256_bytes(key.encode())[:16]}.json"


class _File(Record):
    """What is kept of one kind of processor."""

    key: str
    rates: Rates


def _kept(key: str) -> Rates | None:
    try:
        file = _File.model_validate_json(opened(_path(key).read_bytes()))
    except (OSError, ValueError):
        return None
    return file.rates if file.key == key else None


def measure_rates(budget_s: float = PROBE_SECONDS) -> Rates:
    """Time products in both dtypes by turns, so that other load hits both.

    Args:
        budget_s: no further round is begun after so many seconds, but for the first two.
    """
    from cao.machine.products import time_products  # noqa: PLC0415  (torch; rates that are kept need none)

    timed = time_products(budget_s)
    single, half = timed.float32, timed.bfloat16
    return Rates(
        float32=timed.work / min(single),
        bfloat16=timed.work / min(half),
        least_gain=min(s / h for s, h in zip(single, half, strict=True)),
        noisy=timed.share < LEAST_SHARE or any(statistics.median(each) > NOISY * min(each) for each in (single, half)),
    )
