"""Patches: aligned pairs, a function of seed and number alone, shared out without overlap."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from esrgan_ext.errors import TrainingError
from esrgan_ext.training.dataset import PatchPairs, StepBatches, as_images, batches, collate
from esrgan_ext.training.pack import pack
from esrgan_ext.training.recipe import DataOptions

OPTIONS = DataOptions(patch=32, batch=4)


@pytest.fixture(scope="module")
def coordinates(tmp_path_factory):
    """Two paired images whose red and green are the row and the column in HR pixels, whose blue
    is the image's number, the second with twice the first one's area."""
    folder = tmp_path_factory.mktemp("coordinates")
    for number, (height, width) in enumerate([(64, 96), (128, 96)]):
        rows, columns = np.mgrid[:height, :width]
        hr = np.stack([np.full_like(rows, number), columns, rows], 2).astype(np.uint8)  # BGR
        for name, pixels in (("HR", hr), ("LR", hr[::4, ::4])):
            (folder / name).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number}.png"), pixels)
    return pack([folder / "HR"], folder / "cache", scale=4, smallest=32, lr_folder=folder / "LR")


def orientation(patch: np.ndarray) -> tuple[int, ...]:
    """Differences of row and column numbers to the right and downwards."""
    corner, right, below = patch[0, 0, :2], patch[0, 1, :2], patch[1, 0, :2]
    return tuple((right - corner).tolist() + (below - corner).tolist())


def test_pairs_are_crops_of_one_place_turned_alike(coordinates):
    pairs = PatchPairs(coordinates, OPTIONS, 4, [0])
    turns = set()
    for number in range(100):
        lr, hr = (t.numpy().astype(int) for t in pairs[number])
        assert lr.shape == (8, 8, 3)
        assert hr.shape == (32, 32, 3)
        # Whichever way it is turned, an LR pixel is the top left one of its 4x4 HR pixels.
        assert np.array_equal(hr.reshape(8, 4, 8, 4, 3).min((1, 3)), lr)
        for channel in (0, 1):
            values = np.unique(hr[..., channel])
            assert np.array_equal(values, values[0] + np.arange(32))
        turns.add(orientation(hr))
    assert len(turns) == 8


def test_every_position_can_come(coordinates):
    pairs = PatchPairs(coordinates, OPTIONS, 4, [0])
    corners = [pairs[number][1].numpy().reshape(-1, 3).min(0).tolist() for number in range(6000)]
    small = {(row, column) for row, column, image in corners if image == 0}
    assert small == {(4 * y, 4 * x) for y in range(9) for x in range(17)}


def test_large_images_are_drawn_by_area(coordinates):
    pairs = PatchPairs(coordinates, OPTIONS, 4, [0])
    numbers = [int(pairs[number][1][0, 0, 2]) for number in range(1000)]
    assert np.mean(numbers) == pytest.approx(2 / 3, abs=0.05)


def test_a_patch_depends_on_seed_and_number_alone(packed):
    first, again = PatchPairs(packed, OPTIONS, 4, [3, 0]), PatchPairs(packed, OPTIONS, 4, [3, 0])
    other = PatchPairs(packed, OPTIONS, 4, [3, 1])
    for number in (0, 17, 10**12):
        assert torch.equal(first[number][1], again[number][1])
        assert not torch.equal(first[number][1], other[number][1])


def test_processes_share_the_batches_of_one():
    whole = list(StepBatches(3, 6, 4))
    parts = [list(StepBatches(3, 6, 4, rank, 2)) for rank in (0, 1)]
    assert whole == [a + b for a, b in zip(*parts, strict=True)]
    assert whole[0] == [12, 13, 14, 15]  # a run that goes on at step 3 draws what comes then
    with pytest.raises(TrainingError, match="cannot be shared"):
        StepBatches(0, 1, 4, 0, 3)


@pytest.mark.parametrize("degradation", ["bicubic", "real-esrgan"])
def test_worker_processes_change_nothing(packed, degradation):
    options = dataclasses.replace(OPTIONS, degradation=degradation)
    pairs = PatchPairs(packed, options, 4, [0])
    alone = list(batches(pairs, StepBatches(0, 4, 4), 0, False))
    shared = list(batches(pairs, StepBatches(0, 4, 4), 2, False))
    for (lr, hr), (other_lr, other_hr) in zip(alone, shared, strict=True):
        assert torch.equal(lr, other_lr)
        assert torch.equal(hr, other_hr)


def test_mixed_resolutions_are_refused():
    def pair(side):
        return torch.zeros(side, side, 3), torch.zeros(4 * side, 4 * side, 3)

    with pytest.raises(TrainingError, match="mixes LR patches of 8x8x3, 9x9x3"):
        collate([pair(8), pair(9)])


def test_images_are_scaled_and_channels_last():
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8).expand(2, 4, 5, 3).contiguous()
    x = as_images(pixels, torch.device("cpu"))
    assert x.shape == (2, 3, 4, 5)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x[0, :, 0, 0].tolist() == pytest.approx([0, 0.2, 1])
