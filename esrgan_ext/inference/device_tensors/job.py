"""A call with a tensor: whether it may stay on its GPU, memory for its result, and its job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import OutOfMemory
from esrgan_ext.inference.device_tensors.windows import TensorSteps
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.engine import is_out_of_memory
from esrgan_ext.inference.job import ImageJob, result_array
from esrgan_ext.inference.tensor_values import NUMPY_DTYPES
from esrgan_ext.inference.tiles import Rect


def stays(image: Tensor, devices: Sequence[Device]) -> bool:
    """Whether a tensor need not leave its GPU to be upscaled on these devices."""
    return (
        image.device.type == "cuda"
        and (image.dtype in NUMPY_DTYPES or image.dtype == torch.bfloat16)
        and all(device.device.type == "cuda" for device in devices)
    )


def finish_work(devices: Iterable[torch.device]) -> None:
    """Wait for all that is enqueued there, on any stream."""
    for device in set(devices):
        torch.cuda.synchronize(device)


def result_like(like: Any, shape: tuple[int, ...], given: np.ndarray | None = None) -> Any:
    """Memory for a result of an array's or a tensor's kind, dtype and device.

    Raises
    ------
    OptionError
        The array that the caller gave is of another shape or dtype.
    OutOfMemory
        There is not so much.
    """
    if not isinstance(like, Tensor):
        return result_array(shape, like.dtype, given)
    try:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        gigabytes = math.prod(shape) * like.dtype.itemsize / 1e9
        raise OutOfMemory(
            f"the result of shape {shape} needs {gigabytes:.1f} GB on {like.device}, more than "
            "there is: give a smaller outscale, or an array in main memory"
        ) from error


class TensorJob(ImageJob):
    """An `ImageJob` whose image and results are tensors on a GPU."""

    steps = TensorSteps()

    def read(self, members: list[tuple[int, ...]], rect: Rect) -> Any:
        planes: Any = [self.layout.read(self.image, index, rect) for index in members]
        return planes[0][None] if len(planes) == 1 else torch.stack(planes)

    def _put(self, slices: tuple[int | slice, ...], arranged: Any) -> None:
        self.out[slices] = arranged
