"""Recipes: the papers' figures, overrides, a user's own file, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from esrgan_ext.errors import OptionError
from esrgan_ext.training.recipe import ScheduleOptions, from_dict, load_recipe, recipe_names
from esrgan_ext.training.schedule import learning_rate


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_is_valid(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.summary
    assert from_dict(recipe.as_dict()) == recipe


def rates(name: str, steps: list[int]) -> list[float]:
    recipe = load_recipe(name)
    return [learning_rate(recipe.schedule, step, recipe.steps) for step in steps]


def test_psnr_is_the_papers():
    """arXiv 1809.00219, section 4.1."""
    recipe = load_recipe("psnr")
    assert (recipe.data.batch, recipe.data.patch, recipe.betas) == (16, 128, (0.9, 0.999))
    assert (recipe.generator.nf, recipe.generator.nb, recipe.generator.gc) == (64, 23, 32)
    assert rates("psnr", [0, 199_999, 200_000, 400_000]) == [2e-4, 2e-4, 1e-4, 5e-5]


def test_esrgan_is_the_papers():
    """arXiv 1809.00219, section 4.1 and equation 3."""
    recipe = load_recipe("esrgan")
    weights = recipe.losses
    assert (weights.perceptual, weights.adversarial, weights.l1) == (1, 5e-3, 1e-2)
    assert (weights.gan, weights.features, weights.before_activation) == (
        "relativistic", "vgg19", True,
    )  # fmt: skip
    steps = [0, 50_000, 100_000, 200_000, 300_000, 399_999]
    assert rates("esrgan", steps) == [1e-4, 5e-5, 2.5e-5, 1.25e-5, 6.25e-6, 6.25e-6]


def test_srgan_is_the_papers():
    """arXiv 1609.04802, section 3.2."""
    recipe = load_recipe("srgan")
    assert recipe.generator.architecture == "srresnet"
    assert recipe.generator.batch_norm
    weights = recipe.losses
    assert (weights.adversarial, weights.gan, weights.before_activation) == (1e-3, "plain", False)
    assert rates("srgan", [0, 99_999, 100_000]) == pytest.approx([1e-4, 1e-4, 1e-5])


def test_cosine_rises_and_ends_near_zero():
    recipe = load_recipe(
        "lite-esrgan", {"steps": 1000, "schedule.warmup": 10, "schedule.learning_rate": 1.0}
    )
    values = [learning_rate(recipe.schedule, step, 1000) for step in range(1000)]
    assert values[0] == pytest.approx(0.1)
    assert values[9] == values[10] == 1
    assert all(a >= b for a, b in pairwise(values[10:]))
    assert values[505] == pytest.approx(0.5, abs=0.01)
    assert values[-1] < 1e-4


def test_trapezoid_holds_its_rate_and_falls_to_zero():
    options = ScheduleOptions(learning_rate=2.0, warmup=4, shape="trapezoid", falling=0.2)
    rates = [learning_rate(options, step, 100) for step in range(100)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert set(rates[4:81]) == {2.0}
    assert rates[90] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.1)


def test_a_file_states_differences_to_its_base(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "psnr"\nsteps = 7\n[data]\nbatch = 2\n')
    recipe = load_recipe(str(file), {"data.patch": 64, "clip": None})
    assert (recipe.steps, recipe.data.batch, recipe.data.patch) == (7, 2, 64)
    assert recipe.generator == load_recipe("psnr").generator


def test_a_base_may_be_a_file_beside_it(tmp_path):
    (tmp_path / "one.toml").write_text("steps = 5\n")
    (tmp_path / "two.toml").write_text('base = "one.toml"\nclip = 1\n')
    recipe = load_recipe(str(tmp_path / "two.toml"))
    assert (recipe.steps, recipe.clip) == (5, 1.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stepz = 3", "unknown stepz"),
        ("[data]\nbatch = 'many'", "batch must be of type int"),
        ("[data]\nflip = 1", "flip must be of type bool"),
        ("steps = true", "steps must be of type int"),
        ("[generator]\narchitecture = 'unet'", "one of rrdbnet, srresnet"),
        ("[data]\npatch = 30", "multiple of the scale"),
        ("[data]\npatch = 40\n[losses]\nadversarial = 1.0", "multiples of 32"),
        ("betas = [0.9]", "betas must be a list"),
        ("data = 3", "data must be a table"),
        ("[losses]\nblock_weights = [1.0]", "five numbers"),
        ("[losses]\nblock_weights = [1.0, 1.0, 1.0, 1.0, -1.0]", "none below 0"),
        ("[losses]\nblock_weights = [0.0, 0.0, 0.0, 0.0, 0.0]", "one above it"),
        ("steps = 0", "at least 1"),
        ("ema = 1.0", "ema must be"),
        ("base = 'nothing'", "no recipe is called"),
        ("= 3", "not TOML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, text, complaint):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=complaint):
        load_recipe(str(file))


def test_bases_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('base = "b.toml"')
    (tmp_path / "b.toml").write_text('base = "a.toml"')
    with pytest.raises(OptionError, match="each other"):
        load_recipe(str(tmp_path / "a.toml"))


def test_unknown_names_list_the_known():
    with pytest.raises(OptionError, match=r"psnr.*\.toml"):
        load_recipe("esrgun")
