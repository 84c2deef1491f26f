"""Leaves a shared machine to others: training sleeps while processes that are not niced keep the cores busy."""

import time
from pathlib import Path

BUSY = 0.6  # share of all cores' time that others may use before training waits
NAP, LONGEST = 3.0, 60.0  # seconds


def _times() -> tuple[int, int]:
    """(time of processes that are not niced, all time) since the start, over all cores, in ticks (proc(5))."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[0], sum(fields)


class Polite:
    """Call `wait` between steps; does nothing unless `enabled`."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.before = _times() if enabled else (0, 0)

    def wait(self) -> float:
        """Sleeps while others were busy since the last look, `LONGEST` at most; returns the seconds slept."""
        slept = 0.0
        while self.enabled and slept < LONGEST:
            now = _times()
            if now[1] - self.before[1] < 100:
                break
            busy = (now[0] - self.before[0]) / (now[1] - self.before[1])
            self.before = now
            if busy <= BUSY:
                break
            time.sleep(NAP)
            slept += NAP
        return slept
