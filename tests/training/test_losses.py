"""The losses: against values computed by hand, the papers' formulas in float64, and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.models.vgg import VGGConfig, VGGFeatures
from esrgan_ext.training.losses import (
    PerceptualLoss,
    plain_discriminator_loss,
    plain_generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_by_hand():
    # C(x_r) = 1, 3 and C(x_f) = 0, -2: the means are 2 and -1.
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])
    # D(x_r, x_f) = sigmoid(2), sigmoid(4); D(x_f, x_r) = sigmoid(-2), sigmoid(-4).
    # -log sigmoid(2) = 0.126928, -log sigmoid(4) = 0.018150: mean 0.072539, twice.
    discriminator = relativistic_discriminator_loss(real, fake)
    assert discriminator.item() == pytest.approx(2 * 0.0725390, abs=1e-6)
    # -log(1 - sigmoid(2)) = 2.126928, of 4: 4.018150: mean 3.072539, twice.
    generator = relativistic_generator_loss(real, fake)
    assert generator.item() == pytest.approx(2 * 3.0725390, abs=1e-6)
    # -log sigmoid(1) = 0.313262, of 3: 0.048587; -log(1 - sigmoid(0)) = 0.693147, of -2: 0.126928.
    plain = plain_discriminator_loss(real, fake)
    assert plain.item() == pytest.approx(0.1809245 + 0.4100375, abs=1e-6)
    # -log sigmoid(0) = 0.693147, of -2: 2.126928.
    assert plain_generator_loss(fake).item() == pytest.approx(1.4100375, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_formulas_in_float64(reals, fakes, seed):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(0, 3, (reals, 1)), rng.normal(0, 3, (fakes, 1))
    d_real, d_fake = sigmoid(real - fake.mean()), sigmoid(fake - real.mean())
    tensors = torch.from_numpy(real), torch.from_numpy(fake)
    expected = -np.log(d_real).mean() - np.log(1 - d_fake).mean()
    assert relativistic_discriminator_loss(*tensors).item() == pytest.approx(expected)
    expected = -np.log(1 - d_real).mean() - np.log(d_fake).mean()
    assert relativistic_generator_loss(*tensors).item() == pytest.approx(expected)
    expected = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    assert plain_discriminator_loss(*tensors).item() == pytest.approx(expected)
    expected = -np.log(sigmoid(fake)).mean()
    assert plain_generator_loss(tensors[1]).item() == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0.0, 3.5, -70.0])
@pytest.mark.parametrize("shape", [(4, 1), (2, 1, 8, 8)], ids=["a patch", "a pixel"])
def test_one_constant_everywhere_gives_2_log_2_each(constant, shape):
    logits = torch.full(shape, constant)
    expected = pytest.approx(2 * math.log(2), abs=1e-6)
    assert relativistic_discriminator_loss(logits, logits).item() == expected
    assert relativistic_generator_loss(logits, logits).item() == expected


def test_the_generator_s_loss_is_the_discriminator_s_with_the_roles_exchanged():
    torch.manual_seed(0)
    real, fake = torch.randn(2, 5, 1)
    assert relativistic_generator_loss(real, fake) == relativistic_discriminator_loss(fake, real)


def test_gradients_reach_the_generator_through_both_terms():
    """With m the mean of fake logits, d/dfake_i of the first term is -mean(sigmoid(real - m)) / n,
    of the second -sigmoid(mean(real) - fake_i) / n."""
    real = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    fake = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64, requires_grad=True)
    relativistic_generator_loss(real, fake).backward()
    m = fake.detach().mean()
    first = -torch.sigmoid(real - m).mean() / 3
    second = -torch.sigmoid(real.mean() - fake.detach()) / 3
    assert torch.allclose(fake.grad, first + second)


def test_the_mean_may_be_taken_over_more_than_the_batch_at_hand():
    """Halves of a batch with the joint means give the joint batch's loss, on average."""
    torch.manual_seed(1)
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64)
    for loss in (relativistic_discriminator_loss, relativistic_generator_loss):
        halves = []
        for half in (slice(0, 4), slice(4, 8)):
            parts = real[half], fake[half]
            joint = {parts[0].data_ptr(): real.mean(), parts[1].data_ptr(): fake.mean()}
            halves.append(loss(*parts, mean=lambda logits, j=joint: j[logits.data_ptr()]))
        assert torch.allclose(sum(halves) / 2, loss(real, fake))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_do_not_overflow(size):
    real, fake = torch.tensor([size]), torch.tensor([-size], requires_grad=True)
    for loss in (
        relativistic_discriminator_loss(real, fake),
        relativistic_generator_loss(real, fake),
        plain_discriminator_loss(real, fake),
        plain_generator_loss(fake),
    ):
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, fake, retain_graph=True)
        assert torch.isfinite(gradient).all()


@pytest.fixture(scope="module")
def small_vgg() -> VGGFeatures:
    torch.manual_seed(0)
    return VGGFeatures(VGGConfig((1, 2), (4, 6)))


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_perceptual_loss_is_the_mean_distance_of_features(small_vgg, distance):
    torch.manual_seed(1)
    sr, hr = torch.rand(2, 2, 3, 16, 12)
    difference = (small_vgg(sr) - small_vgg(hr)).double().numpy()
    expected = np.abs(difference).mean() if distance == "l1" else np.square(difference).mean()
    assert expected > 0
    loss = PerceptualLoss(small_vgg, distance)
    assert loss(sr, hr).item() == pytest.approx(expected, rel=1e-5)
    assert loss(hr, hr).item() == 0


def test_perceptual_loss_has_gradients_for_the_sr_image_alone(small_vgg):
    sr, hr = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16)
    hr.requires_grad_()
    PerceptualLoss(small_vgg)(sr, hr).backward()
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert all(p.grad is None for p in small_vgg.parameters())


def test_an_unknown_distance_is_refused(small_vgg):
    with pytest.raises(ValueError, match="l1 or l2"):
        PerceptualLoss(small_vgg, "cosine")


@pytest.mark.parametrize("before_activation", [True, False])
def test_blocks_are_the_features_of_shorter_networks(before_activation):
    torch.manual_seed(0)
    network = VGGFeatures(VGGConfig((2, 1, 3), (4, 6, 5)), before_activation=before_activation)
    x = torch.rand(2, 3, 16, 12)
    blocks = network.blocks(x)
    assert len(blocks) == 3
    for block, found in enumerate(blocks):
        config = VGGConfig((2, 1, 3)[: block + 1], (4, 6, 5)[: block + 1])
        shorter = VGGFeatures(config, before_activation=before_activation)
        shorter.load_state_dict(
            {key: network.state_dict()[key] for key in shorter.state_dict()}, strict=True
        )
        assert torch.equal(found, shorter(x))
    assert torch.equal(blocks[-1], network(x))


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_block_weights_sum_the_blocks_distances(small_vgg, distance):
    torch.manual_seed(1)
    sr, hr = torch.rand(2, 2, 3, 16, 12)
    expected = 0.0
    for weight, a, b in zip((0.5, 2.0), small_vgg.blocks(sr), small_vgg.blocks(hr), strict=True):
        difference = (a - b).double().numpy()
        power = np.abs(difference) if distance == "l1" else np.square(difference)
        expected += weight * power.mean()
    sr.requires_grad_()
    loss = PerceptualLoss(small_vgg, distance, (0.5, 2.0))(sr, hr)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert sr.grad.abs().sum() > 0


def test_the_last_blocks_weight_alone_is_the_papers_loss(small_vgg):
    sr, hr = torch.rand(2, 1, 3, 16, 12, generator=torch.Generator().manual_seed(2))
    assert PerceptualLoss(small_vgg, "l1", (0, 1))(sr, hr) == PerceptualLoss(small_vgg)(sr, hr)


def test_weights_for_another_number_of_blocks_are_refused(small_vgg):
    with pytest.raises(ValueError, match="2 blocks, not 5"):
        PerceptualLoss(small_vgg, "l1", (0.1, 0.1, 1, 1, 1))
