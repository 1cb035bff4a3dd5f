"""Memory of another process, where the system tells it, as Linux does."""

from __future__ import annotations

from pathlib import Path

PROCESSES = Path("/proc")


def status_bytes(process: int, name: str, processes: Path = PROCESSES) -> float | None:
    """A memory figure of a process's status, such as VmRSS (now) or VmHWM (its peak), in bytes."""
    status = processes / str(process) / "status"
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(name)), None)
