"""The machine's figures: C{system/*} of the metrics, and C{/system/stats.json}."""

import os
from typing import Any

import psutil


def figures() -> dict[str, float]:
    """Return what C{/metrics/snapshot} shows of the machine."""
    return {
        "system/cpus_total": float(os.cpu_count() or 0),
        **{f"system/{name.removeprefix('avg_')}": value for name, value in _load().items()},
        **{f"system/{name}": float(value) for name, value in _memory().items()},
    }


def stats() -> dict[str, Any]:
    """Return what C{/system/stats.json} shows: the same by other names, memory in whole bytes."""
    return {**_load(), "cpus_total": os.cpu_count() or 0, **_memory()}


def _load() -> dict[str, float]:
    one, five, fifteen = os.getloadavg()
    return {"avg_load_15min": fifteen, "avg_load_1min": one, "avg_load_5min": five}


def _memory() -> dict[str, int]:
    memory = psutil.virtual_memory()
    return {"mem_free_bytes": memory.available, "mem_total_bytes": memory.total}
