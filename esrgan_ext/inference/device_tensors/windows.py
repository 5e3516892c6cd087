"""`inference.windows` for tensors on a GPU: the steps of one window through the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.device_tensors.consistency import TORCH
from esrgan_ext.inference.device_tensors.hot_pixels import HotPixels, find_hot_pixels
from esrgan_ext.inference.device_tensors.nearest import nearest_places
from esrgan_ext.inference.device_tensors.ranges import check_finite
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.resample import PieceResampler
from esrgan_ext.inference.tensor_values import normalise, restore, wide
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.windows import NORMALISED_PIXELS, Piece, Steps, WindowGeometry
from esrgan_ext.ops.eager import OnWork


class _TensorResampler(PieceResampler):
    """A `PieceResampler` of rows on a device."""

    def _weighted_sum(
        self, values: Any, positions: np.ndarray, weights: np.ndarray, axis: int
    ) -> Any:
        at = torch.from_numpy(positions).to(values.device)
        by = torch.from_numpy(weights).to(values.device)
        shape = [1] * values.ndim
        shape[axis] = -1
        total: Tensor | None = None
        for tap in np.flatnonzero(weights.any(0)).tolist():
            term = values.index_select(axis, at[:, tap]).mul_(by[:, tap].reshape(shape))
            total = term if total is None else total.add_(term)
        assert total is not None  # the weights of each position add up to 1
        return total

    def _joined(self, above: Any, below: Any) -> Any:
        return torch.cat((above, below), 1)


class TensorSteps(Steps):
    """The steps of a window for tensors on a device. Between them nothing crosses to the host but
    what a decision needs."""

    resampler = _TensorResampler
    arithmetic = TORCH

    def without_missing(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """Each plane with its missing pixels from the nearest others; zeros where all are."""
        if not check_finite(window):
            return window, None
        missing = window.isnan()
        places = nearest_places(missing.flatten(0, 1))
        planes = window.masked_fill(missing, 0).flatten(0, 1).flatten(1)
        return planes.gather(1, places).reshape(window.shape), missing

    def all_missing(self, missing: Tensor) -> bool:
        return bool(missing.all())

    def lost(self, window: Tensor, rect: Rect, values: ValueMap, spread: bool) -> Piece:
        pixels = window.new_full((*window.shape[:2], rect.height, rect.width), math.nan)
        return Piece(rect, pixels, pixels.float() if spread else None)

    def without_hidden(self, window: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        if window.shape[1] not in (arrays.GRAY_ALPHA, arrays.RGBA):
            return window, None
        hidden = wide(window[:, -1]) <= 0
        if bool(hidden.any()):
            window = _from_those_that_show(window, hidden)
        alpha = wide(window[:, -1])
        first = alpha[:, :1, :1]
        return window, ((alpha == first).flatten(1).all(1)[:, None, None], first)

    def find_hot(self, window: Tensor, values: ValueMap) -> HotPixels | None:
        return find_hot_pixels(window, values)

    def without_hot(self, window: Tensor, hot: HotPixels) -> Tensor:
        return hot.without(window)

    def normalised(self, window: Tensor, values: ValueMap, on_work: OnWork) -> Tensor:
        """In strips, so that what is computed in double takes little memory."""
        height, width = window.shape[2:]
        planes = torch.empty(window.shape, dtype=torch.float32, device=window.device)
        rows = max(1, NORMALISED_PIXELS // max(width, 1))
        for top in range(0, height, rows):
            planes[:, :, top : top + rows] = normalise(window[:, :, top : top + rows], values)
            on_work(0)
        return planes

    def rows(
        self, engine: Engine, planes: Tensor, on_work: OnWork, spread: bool
    ) -> Iterator[tuple[int, Tensor]]:
        return (engine.tensor_spread if spread else engine.tensor_rows)(planes, on_work)

    def with_hot(
        self, piece: Tensor, hot: HotPixels, rect: Rect, geometry: WindowGeometry
    ) -> Tensor:
        whole = piece.clone()
        hot.add(rect, whole, geometry)
        return whole

    def restored(self, piece: Tensor, values: ValueMap) -> Tensor:
        return restore(piece, values)

    def finished(
        self, pixels: Tensor, alpha: tuple[Tensor, Tensor] | None, dtype: torch.dtype
    ) -> Tensor:
        if alpha is not None:
            even, value = alpha
            pixels = wide(pixels).clone()
            pixels[:, -1] = torch.where(even, value.to(pixels.dtype), pixels[:, -1])
        return pixels.to(dtype)

    def scaled(self, std: Tensor, values: ValueMap) -> Tensor:
        return (std * float(np.float32(values.high - values.low))).float()

    def put_back(
        self,
        missing: Tensor,
        geometry: WindowGeometry,
        rect: Rect,
        pixels: Tensor,
        std: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        origin = (geometry.source_window.y0, geometry.source_window.x0)
        rows, columns = arrays.nearest_indices(geometry.size, geometry.result_size, rect, origin)
        device = missing.device
        lost = missing[:, :, torch.from_numpy(rows).to(device)]
        lost = lost[..., torch.from_numpy(columns).to(device)]
        pixels = pixels.masked_fill(lost, math.nan)
        return pixels, None if std is None else std.masked_fill(lost, math.nan)


def _from_those_that_show(window: Tensor, hidden: Tensor) -> Tensor:
    """`arrays.fill_hidden`: transparent pixels get the colours of the nearest that show."""
    places = nearest_places(hidden)[:, None].expand(-1, window.shape[1] - 1, -1)
    colours = wide(window[:, :-1]).flatten(2).gather(2, places)
    window = window.clone()
    window[:, :-1] = colours.reshape(window[:, :-1].shape).to(window.dtype)
    return window
