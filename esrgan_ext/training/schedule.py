"""The learning rate as a pure function of the step: nothing to store, nothing to resume."""

from __future__ import annotations

import math

from esrgan_ext.training.recipe import ScheduleOptions


def learning_rate(options: ScheduleOptions, step: int, steps: int) -> float:
    """Learning rate of one step.

    Parameters
    ----------
    options : ScheduleOptions
    step : int
        Counted from 0.
    steps : int
        Steps of the whole run; "steps" does not depend on it.
    """
    rate = options.learning_rate
    if step < options.warmup:
        return rate * (step + 1) / options.warmup
    if options.shape == "cosine":
        progress = (step - options.warmup) / max(1, steps - options.warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if options.shape == "trapezoid":
        falling = max(1.0, options.falling * steps)
        return rate * min(1.0, (steps - step) / falling)
    return rate * options.decay ** sum(step >= milestone for milestone in options.milestones)
