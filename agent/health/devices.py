"""What the doctor says of torch: what it can compute on."""

import os

import torch

from agent.health.checks import Check
from agent.record.wording import count


def check_torch() -> list[Check]:
    """Load torch and say what it can compute on."""
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [
        Check(
            "devices",
            "ok",
            f"{', '.join(devices)}; {count(torch.get_num_threads(), 'thread')} of {os.cpu_count()} processors",
        )
    ]
