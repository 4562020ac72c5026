"""How fast a run goes, and the time that is left, as it is shown while the run goes on."""

import time

from engine.profile.recorder import warm_steps


class Pace:
    """Samples a second, and the seconds that are left.

    As in the results, the first few steps do not count: they compile kernels and touch memory for the first
    time. The rest counts by the clock on the wall, with evaluations and checkpoints, as they will come again.
    """

    def __init__(self, *, total_steps: int, first_step: int):
        self._total, self._step = total_steps, first_step
        self._begin = first_step + warm_steps(total_steps - first_step)
        self._began = time.monotonic()
        self.samples_per_second: float | None = None
        """Of the last step; None for the first few."""

    def step(self, step: int, samples_per_second: float) -> None:
        """Count a step that is done."""
        self._step = step
        if step <= self._begin:
            self._began = time.monotonic()
        else:
            self.samples_per_second = samples_per_second

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last step is done; None while that is not known."""
        done = self._step - self._begin
        if done <= 0:
            return None
        return (time.monotonic() - self._began) / done * (self._total - self._step)

    def words(self) -> list[str]:
        """Return what is known, for a line."""
        left = self.seconds_left
        if self.samples_per_second is None or left is None:
            return []
        return [f"{self.samples_per_second:.4g} samples/s", f"{clock(left)} left"]


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, 3:07, or with hours and days in front where there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
