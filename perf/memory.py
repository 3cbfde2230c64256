"""How much memory processes have while a block runs."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


def memory_of(process: int) -> int:
    """Return the resident memory of a process in KiB, 0 if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


class Memory:
    """Samples of the processes' resident memory in KiB, from the start of the block to its end.

    Args:
        processes: Their ids.
        interval: Seconds between samples.
    """

    def __init__(self, processes: Sequence[int], interval: float = 0.1) -> None:
        self.samples: list[list[int]] = [[memory_of(process)] for process in processes]
        self._processes, self._interval = processes, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            for process, samples in zip(self._processes, self.samples, strict=True):
                samples.append(memory_of(process))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """The peak over the first sample, of the process that grew most."""
        return max(max(samples) / max(1, samples[0]) for samples in self.samples)

    def __str__(self) -> str:
        return ", ".join(f"{each[0] / 1024:.0f} MiB, peak {max(each) / 1024:.0f}, then {each[-1] / 1024:.0f}"
                         for each in self.samples)  # fmt: skip
