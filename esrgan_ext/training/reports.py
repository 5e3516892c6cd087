"""Reports of a run: lines on the screen, a log of JSON lines, TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from esrgan_ext.training.validation import ValidationPair
from esrgan_ext.wording import duration


@dataclass(frozen=True, eq=False)
class StepReport:
    """A step that was done.

    Attributes
    ----------
    step, steps
        Done, and in all.
    learning_rate
    losses
        By name: of this process's share of the batch, and where steps are summed up, their means.
    gradient_norm
        Norm of the generator's gradient, before clipping.
    """

    step: int
    steps: int
    learning_rate: float
    losses: dict[str, Tensor]
    gradient_norm: Tensor


class Report:
    """Is told what happens and says nothing: the base of the others, and the processes' beside
    the main one."""

    def step(self, report: StepReport, steps_per_second: float) -> None: ...

    def validated(
        self, step: int, psnr: float, pairs: Sequence[ValidationPair], images: Sequence[np.ndarray]
    ) -> None: ...

    def rolled_back(self, failed: int, resumed: int) -> None: ...

    def said(self, line: str) -> None: ...

    def close(self) -> None: ...


class Lines(Report):
    """One line at a time, through a function that prints."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._psnr = ""

    def step(self, report: StepReport, steps_per_second: float) -> None:
        losses = "  ".join(f"{name} {value.item():.4f}" for name, value in report.losses.items())
        left = (report.steps - report.step) / max(steps_per_second, 1e-9)
        self._say(
            f"step {report.step}/{report.steps}  {losses}  lr {report.learning_rate:.2e}  "
            f"{steps_per_second:.2f} steps/s  {duration(left)} left{self._psnr}"
        )

    def validated(
        self, step: int, psnr: float, pairs: Sequence[ValidationPair], images: Sequence[np.ndarray]
    ) -> None:
        self._psnr = f"  PSNR {psnr:.2f} dB at {step}"
        self._say(f"step {step}: PSNR-Y {psnr:.3f} dB on {len(pairs)} images")

    def rolled_back(self, failed: int, resumed: int) -> None:
        self._say(f"step {failed + 1}: a gradient was not finite; back to step {resumed}")

    def said(self, line: str) -> None:
        self._say(line)


class JsonLog(Report):
    """One JSON object a line, appended, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _write(self, **content: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 1), **content}) + "\n")

    def step(self, report: StepReport, steps_per_second: float) -> None:
        losses = {name: round(value.item(), 6) for name, value in report.losses.items()}
        self._write(
            step=report.step,
            learning_rate=report.learning_rate,
            gradient_norm=round(report.gradient_norm.item(), 6),
            steps_per_second=round(steps_per_second, 3),
            **losses,
        )

    def validated(
        self, step: int, psnr: float, pairs: Sequence[ValidationPair], images: Sequence[np.ndarray]
    ) -> None:
        self._write(step=step, psnr_y=round(psnr, 4))

    def rolled_back(self, failed: int, resumed: int) -> None:
        self._write(step=resumed, rolled_back_from=failed)


class Several(Report):
    """Passes everything on to several."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = list(reports)

    def step(self, report: StepReport, steps_per_second: float) -> None:
        for r in self._reports:
            r.step(report, steps_per_second)

    def validated(
        self, step: int, psnr: float, pairs: Sequence[ValidationPair], images: Sequence[np.ndarray]
    ) -> None:
        for r in self._reports:
            r.validated(step, psnr, pairs, images)

    def rolled_back(self, failed: int, resumed: int) -> None:
        for r in self._reports:
            r.rolled_back(failed, resumed)

    def said(self, line: str) -> None:
        for r in self._reports:
            r.said(line)

    def close(self) -> None:
        for r in self._reports:
            r.close()
