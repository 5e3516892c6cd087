"""A batch in parts, a thread each: the same gradients, whatever the machine does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.objectives import PixelObjective, build_objective
from esrgan_ext.training.recipe import Recipe, load_recipe
from esrgan_ext.training.shards import Shards, shard_count
from esrgan_ext.training.trainer import Trainer
from tests.conftest import torch_threads

from .conftest import same_weights


@pytest.fixture
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.mark.parametrize(
    ("batch", "threads", "count"),
    [
        (1, 8, 1),  # nothing to share out
        (4, 1, 1),
        (4, 2, 2),
        (8, 2, 2),
        (16, 16, 16),
        (4, 16, 4),  # four threads for each image
        (4, 3, 1),  # 4 * 1.2 / 3 of an image's time, by parts it would be 2
        (5, 2, 2),  # 3 either way: parts meet less often
        (7, 3, 1),  # 7 * 1.2 / 3 = 2.8, by parts 3
    ],
)
def test_as_many_parts_as_are_done_soonest(batch: int, threads: int, count: int) -> None:
    assert shard_count(batch, threads) == count


def batch_of(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    side = recipe.data.patch
    low = torch.rand(recipe.data.batch, 3, side // 4, side // 4)
    return low, torch.rand(recipe.data.batch, 3, side, side)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("rounding", [0.0, 0.01])
def test_parts_give_the_gradients_of_the_whole(
    make_trainer: Callable[..., Trainer], tiny_recipe: Recipe, count: int, rounding: float
) -> None:
    recipe = replace(
        tiny_recipe,
        data=replace(tiny_recipe.data, batch=5),
        losses=replace(tiny_recipe.losses, rounding=rounding),
    )
    trainer = make_trainer(recipe)
    low, high = batch_of(recipe)
    found = []
    for parts in (1, count):
        trainer._shards = Shards(5, 1)
        trainer._shards.count = parts
        losses, norms = trainer._gradients(low, high)
        found.append((losses["l1"], norms[0], [p.grad for p in trainer.generator.parameters()]))
        trainer._shards.close()
    (l1, norm, whole), (l1_of_parts, norm_of_parts, summed) = found
    assert torch.allclose(l1, l1_of_parts, rtol=1e-6)
    assert torch.allclose(norm, norm_of_parts, rtol=1e-5)
    largest = max(float(g.abs().max()) for g in whole)
    for a, b in zip(whole, summed, strict=True):
        assert float((a - b).abs().max()) < 1e-5 * largest


@pytest.mark.usefixtures("two_threads")
def test_the_weights_do_not_depend_on_which_thread_is_late(
    make_trainer: Callable[..., Trainer], tiny_recipe: Recipe, tmp_path, monkeypatch
) -> None:
    def late(self: PixelObjective, sr: torch.Tensor, hr: torch.Tensor):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(next(delays))
        return loss_of(self, sr, hr)

    loss_of = PixelObjective.generator_loss
    networks = []
    for pattern in ([0.0, 0.02], [0.02, 0.0]):
        delays = iter(pattern * 100)
        monkeypatch.setattr(PixelObjective, "generator_loss", late)
        trainer = make_trainer(tiny_recipe, tmp_path / str(pattern[0]))
        assert trainer._shards.count == 2
        trainer.run()
        networks.append(trainer.generator)
    assert same_weights(*networks)


@pytest.mark.usefixtures("two_threads")
def test_other_threads_keep_their_number_of_threads(
    make_trainer: Callable[..., Trainer], tiny_recipe: Recipe
) -> None:
    make_trainer(tiny_recipe).run()
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]
    assert not any("esrgan-shard" in t.name for t in threading.enumerate())


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_part_is_the_runs(
    make_trainer: Callable[..., Trainer], tiny_recipe: Recipe, monkeypatch
) -> None:
    def failing(self: PixelObjective, sr: torch.Tensor, hr: torch.Tensor):
        raise MemoryError("no room")

    trainer = make_trainer(tiny_recipe)
    monkeypatch.setattr(PixelObjective, "generator_loss", failing)
    with pytest.raises(MemoryError, match="no room"):
        trainer.run()
    assert not any("esrgan-shard" in t.name for t in threading.enumerate())


@pytest.mark.usefixtures("two_threads")
def test_a_batch_stays_whole_where_its_images_depend_on_each_other(
    make_trainer: Callable[..., Trainer], tiny_recipe: Recipe
) -> None:
    recipe = load_recipe(
        "lite-esrgan",
        {"data.patch": 64, "losses.perceptual": 0.0, "discriminator.nf": 4, "generator.nb": 1},
    )
    pixels = make_trainer(tiny_recipe)
    objective = build_objective(recipe, 0, lambda x: x.mean(), None)
    adversarial = Trainer(
        recipe,
        pixels.options,
        build_generator(recipe, 0),
        objective,
        pixels._images,
        [],
        pixels._group,
        pixels._report,
    )
    assert pixels._shards.count == 2
    assert adversarial._shards.count == 1
