"""Random pairs of LR and HR patches, each a pure function of the seed and its number in the run.

So the same patches come whatever the number of processes and loader workers, and a resumed run
goes on with the patch that would have come next; no state of a random generator is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from esrgan_ext.errors import TrainingError
from esrgan_ext.training.degradations import degraded
from esrgan_ext.training.pack import PackedImages
from esrgan_ext.training.recipe import DataOptions

# LR pixels around a patch that is degraded: what the widest blur kernel reaches at that size.
CONTEXT = 10


class PatchPairs(Dataset[tuple[Tensor, Tensor]]):
    """Patches by their number in the run.

    Parameters
    ----------
    images : PackedImages
    options : DataOptions
    scale : int
    seed : sequence of int
        All that the patches depend on beside their number.
    """

    def __init__(
        self, images: PackedImages, options: DataOptions, scale: int, seed: Sequence[int]
    ) -> None:
        self._images, self._options, self._scale = images, options, scale
        self._seed = list(seed)
        # Large images are drawn as often as the sub-images cut out of them would be.
        areas = np.array([i.height * i.width for i in images.images], np.float64)
        self._cumulative = np.cumsum(areas / areas.sum())

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """LR and HR patch: uint8 tensors of shape (p, p, 3) and (scale * p, scale * p, 3)."""
        rng = np.random.default_rng([*self._seed, number])
        drawn = np.searchsorted(self._cumulative, rng.random(), side="right")
        image = self._images.images[min(int(drawn), len(self._images.images) - 1)]
        scale, side = self._scale, self._options.patch // self._scale
        top = int(rng.integers(image.height // scale - side + 1))
        left = int(rng.integers(image.width // scale - side + 1))
        pixels = self._images.hr(image)
        hr = pixels[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        if self._options.degradation == "bicubic" or image.lr_offset >= 0:
            lr = self._images.lr(image)[top : top + side, left : left + side]
        else:
            lr = self._degraded(pixels, top, left, side, rng)
        lr, hr = self._turned(rng, lr, hr)
        return torch.from_numpy(lr.copy()), torch.from_numpy(hr.copy())

    def _degraded(
        self, pixels: np.ndarray, top: int, left: int, side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The LR patch, degraded with some context, so that no border shows in it."""
        scale = self._scale
        first, start = max(0, top - CONTEXT), max(0, left - CONTEXT)
        window = pixels[
            first * scale : (top + side + CONTEXT) * scale,
            start * scale : (left + side + CONTEXT) * scale,
        ]
        lr = degraded(window, scale, rng)
        return lr[top - first : top - first + side, left - start : left - start + side]

    def _turned(self, rng: np.random.Generator, *images: np.ndarray) -> list[np.ndarray]:
        turns = int(rng.integers(4)) if self._options.rotate else 0
        mirrored = self._options.flip and rng.random() < 0.5
        turned = [np.rot90(image, turns) for image in images]
        return [image[:, ::-1] for image in turned] if mirrored else turned


class StepBatches(Sampler[list[int]]):
    """The patch numbers of this process's share of each step's batch.

    Parameters
    ----------
    first, last : int
        Steps, the last one exclusive.
    batch : int
        Patches a step over all processes.
    rank, world : int
        This process and their number; `batch` is a multiple of the latter.
    """

    def __init__(self, first: int, last: int, batch: int, rank: int = 0, world: int = 1) -> None:
        if batch % world:
            raise TrainingError(f"a batch of {batch} cannot be shared by {world} processes")
        self._steps, self._batch = range(first, last), batch
        self._share, self._rank = batch // world, rank

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            start = step * self._batch + self._rank * self._share
            yield list(range(start, start + self._share))

    def __len__(self) -> int:
        return len(self._steps)


def collate(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack patches.

    Raises
    ------
    TrainingError
        They are not all of one size: resolutions cannot be mixed within a batch.
    """
    for k, kind in enumerate(("LR", "HR")):
        sizes = {tuple(pair[k].shape) for pair in pairs}
        if len(sizes) > 1:
            listed = ", ".join("x".join(map(str, size)) for size in sorted(sizes))
            raise TrainingError(
                f"a batch mixes {kind} patches of {listed}: all must have one resolution"
            )
    lr, hr = zip(*pairs, strict=True)
    return torch.stack(lr), torch.stack(hr)


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], sampler: StepBatches, workers: int, pinned: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader over the steps of the sampler."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
    )


def as_images(pixels: Tensor, device: torch.device) -> Tensor:
    """A uint8 batch N,H,W,3 as float32 in [0, 1], N,3,H,W in channels-last memory."""
    moved = pixels.to(device, non_blocking=True)
    return moved.permute(0, 3, 1, 2).to(torch.float32).div_(255)
