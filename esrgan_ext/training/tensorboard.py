"""Curves and image panels for TensorBoard (the extra `train`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from esrgan_ext.training.reports import Report, StepReport
from esrgan_ext.training.validation import ValidationPair

# Panels are centre crops of the first images: more would make the event files grow by the hour.
PANELS = 4
PANEL_SIDE = 192


def available() -> bool:
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoard(Report):
    """Writes losses and learning rate at each log step; PSNR and panels at each validation.

    A panel shows LR (enlarged without interpolation), SR and HR side by side.

    Parameters
    ----------
    folder : Path
        A run's; `tensorboard --logdir` takes it or the folder above.
    step : int
        Where the run begins or goes on; what a killed run wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def step(self, report: StepReport, steps_per_second: float) -> None:
        for name, value in report.losses.items():
            self._writer.add_scalar(f"losses/{name}", value.item(), report.step)
        self._writer.add_scalar("learning rate", report.learning_rate, report.step)
        self._writer.add_scalar("gradient norm", report.gradient_norm.item(), report.step)
        self._writer.add_scalar("steps per second", steps_per_second, report.step)

    def validated(
        self, step: int, psnr: float, pairs: Sequence[ValidationPair], images: Sequence[np.ndarray]
    ) -> None:
        self._writer.add_scalar("validation/PSNR-Y", psnr, step)
        for pair, sr in list(zip(pairs, images, strict=True))[:PANELS]:
            panel = side_by_side(pair, sr)
            self._writer.add_image(pair.name, panel, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def side_by_side(pair: ValidationPair, sr: np.ndarray) -> np.ndarray:
    """LR, SR and HR of the image's centre, shape (h, 3 * w, 3), uint8."""
    height, width = pair.hr.shape[:2]
    lr = cv2.resize(pair.lr, (width, height), interpolation=cv2.INTER_NEAREST)
    top, left = max(0, height - PANEL_SIDE) // 2, max(0, width - PANEL_SIDE) // 2
    area = (slice(top, top + PANEL_SIDE), slice(left, left + PANEL_SIDE))
    return np.concatenate([image[area] for image in (lr, sr, pair.hr)], axis=1)
