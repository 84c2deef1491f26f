"""Leaves a shared machine to others, and ends cleanly when asked to."""

import signal
import time
from pathlib import Path
from types import FrameType

import torch

BUSY = 0.6  # share of all cores' time that others may use before training sleeps
SHARED = 0.2  # share from which on one thread trains faster than two that wait for each other
NAP, LONGEST, WORK = 3.0, 60.0, 20.0  # seconds: a sleep, sleeps in a row, work after the longest sleep


def _times() -> tuple[int, int]:
    """(time of processes that are not niced, all time) since the start, over all cores, in ticks (proc(5))."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[0], sum(fields)


class Polite:
    """Call `wait` between steps; unless `enabled` it does nothing. Processes with a nice value do not count as others."""

    def __init__(self, enabled: bool, threads: int = 2) -> None:
        self.enabled, self.threads = enabled, threads
        self.before, self.until = (_times() if enabled else (0, 0)), 0.0

    def wait(self) -> float:
        """Sleeps while others were busy since the last look; returns the seconds slept."""
        slept = 0.0
        while self.enabled and time.monotonic() > self.until:
            now = _times()
            if now[1] - self.before[1] < 200:
                break
            busy = (now[0] - self.before[0]) / (now[1] - self.before[1])
            self.before = now
            torch.set_num_threads(1 if busy > SHARED else self.threads)
            if busy <= BUSY:
                break
            if slept >= LONGEST:
                self.until = time.monotonic() + WORK
                break
            time.sleep(NAP)
            slept += NAP
        return slept


class Clock:
    """Says when to stop: after some minutes, or at the end of the step in which SIGTERM or SIGINT came."""

    def __init__(self, minutes: float) -> None:
        self.started, self.slept = time.monotonic(), 0.0
        self.stop = self.started + 60 * minutes
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._end)

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop = 0.0

    def done(self) -> bool:
        """Whether the loop must save and leave."""
        return time.monotonic() >= self.stop

    def worked(self) -> float:
        """Seconds since the start without those in `slept`."""
        return time.monotonic() - self.started - self.slept
