"""Trace of a run: where its time goes, by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from .timing import seconds_of

MOST = 8
"""Operations that are told one by one, those of the most time."""


def traced(run: Callable[[], object]) -> dict[str, dict[str, list[float]]]:
    """Traces a run, which must have run before; metrics by operation, and of all of them.

    share of time: an operation's own time on the device, of all operations'. device busy: time on the device of all
    operations as a part of the time of the same run without a trace.
    """
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    seconds = seconds_of(run)
    with profile(activities=activities) as trace:
        seconds_of(run)
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    took = {event.key: (getattr(event, name), event.count) for event in trace.key_averages() if _counts(event, on_gpu)}
    total = sum(time for time, _ in took.values())
    order = sorted(took, key=lambda key: -took[key][0])
    return {
        "all operations": {
            "seconds": [seconds],
            "device busy": [total / 1e6 / seconds],
            "calls": [float(sum(count for _, count in took.values()))],
        },
        **{key: {"share of time": [took[key][0] / total], "calls": [float(took[key][1])]} for key in order[:MOST]},
    }


def _counts(event: Any, on_gpu: bool) -> bool:
    """True for PyTorch's operations: on a GPU their kernels' time is told twice, of the operation and of the kernel."""
    return event.key.startswith("aten::") and bool(event.self_device_time_total if on_gpu else True)
