"""Patches: aligned pairs, a function of seed and number alone, shared out without overlap."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from esrgan_ext.errors import TrainingError
from esrgan_ext.training.dataset import PatchPairs, StepBatches, as_images, batches, collate
from esrgan_ext.training.recipe import DataOptions

OPTIONS = DataOptions(patch=32, batch=4)


def found_in(image: np.ndarray, patch: np.ndarray) -> tuple[int, int] | None:
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)[:, :, 0]
    hits = np.argwhere((windows == patch).all((2, 3, 4)))
    return tuple(map(int, hits[0])) if len(hits) else None


def test_pairs_are_crops_of_one_place_turned_alike(packed):
    pairs = PatchPairs(packed, OPTIONS, 4, [0])
    turns = set()
    for number in range(60):
        lr, hr = (t.numpy() for t in pairs[number])
        assert lr.shape == (8, 8, 3)
        assert hr.shape == (32, 32, 3)
        for k in range(8):  # undo each of the eight ways of turning
            back = [np.rot90(p[:, ::-1] if k > 3 else p, -(k % 4)) for p in (lr, hr)]
            places = [
                (found_in(packed.lr(image), back[0]), found_in(packed.hr(image), back[1]))
                for image in packed.images
            ]
            matching = [p for p in places if p[0] is not None and p[1] is not None]
            if matching:
                turns.add(k)
                break
        (low, high), *_ = matching
        assert (low[0] * 4, low[1] * 4) == high
    assert len(turns) == 8


def test_a_patch_depends_on_seed_and_number_alone(packed):
    first, again = PatchPairs(packed, OPTIONS, 4, [3, 0]), PatchPairs(packed, OPTIONS, 4, [3, 0])
    other = PatchPairs(packed, OPTIONS, 4, [3, 1])
    for number in (0, 17, 10**12):
        assert torch.equal(first[number][1], again[number][1])
        assert not torch.equal(first[number][1], other[number][1])


def test_large_images_are_drawn_by_area(packed):
    options = dataclasses.replace(OPTIONS, flip=False, rotate=False)
    pairs = PatchPairs(packed, options, 4, [0])
    areas = np.array([i.height * i.width for i in packed.images])
    counts = np.zeros(len(areas))
    for number in range(400):
        hr = pairs[number][1].numpy()
        counts[[found_in(packed.hr(i), hr) is not None for i in packed.images].index(True)] += 1
    assert counts / 400 == pytest.approx(areas / areas.sum(), abs=0.07)


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
