"""Network interpolation against the formula in NumPy, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from esrgan_ext.errors import ArchitectureMismatch, EsrganError, OptionError
from esrgan_ext.models import SRResNet, SRResNetConfig
from esrgan_ext.weights import (
    InterpolatedModel,
    info_of,
    interpolate,
    interpolate_many,
    load_model,
    save_model,
)
from tests.conftest import make_network


def bits(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(value.numpy()).view(np.uint32)
        for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 0.5, 0.8, 0.999, 1.0])
def test_every_tensor_follows_the_formula(alpha: float) -> None:
    a, b = make_network(seed=1, nb=2), make_network(seed=2, nb=2)
    mixed = interpolate(a, b, alpha)
    assert mixed.config == a.config
    for name, value in mixed.state_dict().items():
        x, y = a.state_dict()[name].numpy(), b.state_dict()[name].numpy()
        expected = np.float32(1 - alpha) * x + np.float32(alpha) * y
        np.testing.assert_array_equal(value.numpy(), expected, err_msg=name)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_are_the_networks_to_the_bit(alpha: float) -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    with torch.no_grad():
        a.conv_hr.bias[:2] = torch.tensor([-0.0, 1e-42])  # what 0 * b + a would change
        b.conv_hr.bias[2:4] = torch.tensor([-0.0, 1e-42])
    found, expected = bits(interpolate(a, b, alpha)), bits(b if alpha else a)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_the_sources_are_left_alone() -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    before = bits(a), bits(b)
    mixed = interpolate(a, b, 0.5)
    with torch.no_grad():
        for parameter in mixed.parameters():
            parameter.zero_()
    for network, old in zip((a, b), before, strict=True):
        for name, value in bits(network).items():
            np.testing.assert_array_equal(value, old[name])


@pytest.mark.parametrize("alpha", [-0.5, 1.5, 3.0])
def test_outside_of_0_to_1_only_on_request(alpha: float) -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    with pytest.raises(OptionError, match=r"alpha must lie in \[0, 1\].*extrapolate=True"):
        interpolate(a, b, alpha)
    mixed = interpolate(a, b, alpha, extrapolate=True)
    x, y = a.conv_body.weight.numpy(), b.conv_body.weight.numpy()
    np.testing.assert_allclose(
        mixed.conv_body.weight.numpy(), (1 - alpha) * x + alpha * y, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf"), None, "half"])
@pytest.mark.parametrize("extrapolate", [False, True])
def test_alpha_must_be_a_finite_number(alpha: object, extrapolate: bool) -> None:
    # The name is not looked up before alpha was checked.
    with pytest.raises(OptionError, match="alpha must be a"):
        interpolate("no-such-model", "nor-this", alpha, extrapolate=extrapolate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "tensor", "shapes"),
    [
        ({"nb": 2}, "body.1.rdb1.conv1.weight", ("(absent)", "4x8x3x3")),
        ({"nf": 6}, "conv_first.weight", ("8x3x3x3", "6x3x3x3")),
        ({"gc": 3}, "body.0.rdb1.conv1.weight", ("4x8x3x3", "3x8x3x3")),
        ({"scale": 2}, "conv_up2.weight", ("8x8x3x3", "(absent)")),
        ({"plus": True}, "body.0.rdb1.conv1x1.weight", ("(absent)", "4x8x1x1")),
        ({"in_channels": 1}, "conv_first.weight", ("8x3x3x3", "8x1x3x3")),
        ({"out_channels": 1}, "conv_last.weight", ("3x8x3x3", "1x8x3x3")),
    ],
)
def test_the_first_tensor_that_differs_is_named(
    other: dict[str, int], tensor: str, shapes: tuple[str, str]
) -> None:
    with pytest.raises(ArchitectureMismatch) as raised:
        interpolate(make_network(), make_network(**other), 0.5)
    message = str(raised.value)
    assert f"{tensor} has shape {shapes[0]} in the first and {shapes[1]} in the other" in message
    assert isinstance(raised.value, EsrganError)


def test_equal_tensors_of_different_networks_are_not_mixed() -> None:
    a = make_network(in_channels=4, out_channels=1, scale=4)
    b = make_network(in_channels=1, out_channels=1, scale=2, unshuffle=2)
    assert a.state_dict().keys() == b.state_dict().keys()
    with pytest.raises(ArchitectureMismatch, match="configurations do not"):
        interpolate(a, b, 0.5)


def test_srresnet_and_its_batchnorm() -> None:
    def network(seed: int) -> SRResNet:
        torch.manual_seed(seed)
        made = SRResNet(SRResNetConfig(nf=4, nb=1))
        made(torch.rand(2, 3, 8, 8))  # fills BatchNorm's statistics
        return made.eval()

    a, b = network(1), network(2)
    mixed = interpolate(a, b, 0.25)
    x, y = (n.bn_body.running_var.numpy() for n in (a, b))
    np.testing.assert_array_equal(
        mixed.bn_body.running_var.numpy(), np.float32(0.75) * x + np.float32(0.25) * y
    )
    far = interpolate(a, b, 50.0, extrapolate=True)
    assert torch.isfinite(far(torch.rand(1, 3, 5, 5))).all()


def test_names_paths_and_modules_can_be_mixed(tmp_path: Path) -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    paths = [save_model(a, tmp_path / "a.pth"), save_model(b, tmp_path / "b.safetensors")]
    expected = bits(interpolate(a, b, 0.3))
    for models in [(paths[0], str(paths[1])), (a, paths[1])]:
        for name, value in bits(interpolate(*models, 0.3)).items():
            np.testing.assert_array_equal(value, expected[name])


def test_networks_in_half_precision_are_mixed_in_float32() -> None:
    a, b = make_network(seed=1), make_network(seed=2).half()
    mixed = interpolate(a, b, 0.5)
    y = b.conv_hr.weight.float().numpy()
    expected = np.float32(0.5) * a.conv_hr.weight.numpy() + np.float32(0.5) * y
    np.testing.assert_array_equal(mixed.conv_hr.weight.numpy(), expected)


def test_the_mix_says_what_it_is() -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    a.info = replace(info_of(a), name="soft", license="MIT", overlap=32)
    b.info = replace(info_of(b), name="sharp", license="BSD-3-Clause", overlap=64)
    info = interpolate(a, b, 0.8).info
    assert info.name == "soft+sharp@0.80"
    assert info.license == "MIT AND BSD-3-Clause"
    assert info.overlap == 64
    assert (info.path, info.sha256) == (None, None)


def test_moving_alpha_in_place_is_what_a_new_mix_is() -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    model = InterpolatedModel(a, b, 0.2)
    network, image = model.network, torch.rand(1, 3, 9, 7)
    for alpha in (0.2, 0.9, 0.0, 1.0, 0.5):
        model.set_alpha(alpha)
        assert model.network is network
        assert network.info.name.endswith(f"@{alpha:.2f}")
        with torch.no_grad():  # kernels that packed the old weights would show here
            torch.testing.assert_close(
                network(image), interpolate(a, b, alpha)(image), rtol=0, atol=0
            )
    with pytest.raises(OptionError):
        model.set_alpha(1.01)
    assert model.alpha == 0.5


def test_many_networks_are_weighted() -> None:
    networks = [make_network(seed=seed) for seed in range(4)]
    weights = [0.1, 0.2, 0.3, 0.4]
    mixed = interpolate_many(networks, weights)
    for name, value in mixed.state_dict().items():
        expected = sum(
            w * n.state_dict()[name].numpy().astype(np.float64)
            for n, w in zip(networks, weights, strict=True)
        )
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_of_many_is_itself() -> None:
    networks = [make_network(seed=seed) for seed in range(3)]
    found, expected = bits(interpolate_many(networks, [0, 1, 0])), bits(networks[1])
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([0.5], "2 models need as many weights"),
        ([0.5, 0.4], "sum to 1, got 0.9"),
        ([1.5, -0.5], "must lie in"),
        ([float("nan"), 1.0], "finite"),
        ([], "need as many weights"),
    ],
)
def test_weights_must_be_shares(weights: list[float], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        interpolate_many([make_network(), make_network()], weights)


def test_no_models_are_refused() -> None:
    with pytest.raises(OptionError, match="0 models"):
        interpolate_many([], [])


def test_foreign_modules_are_refused() -> None:
    with pytest.raises(OptionError, match="not Conv2d"):
        interpolate(torch.nn.Conv2d(3, 3, 1), make_network(), 0.5)


def test_the_packaged_pair_mixes() -> None:
    a, b = load_model("realsr-df2k"), load_model("realesrgan-x4plus")
    mixed = interpolate(a, b, 0.8)
    assert mixed.info.name == "realsr-df2k+realesrgan-x4plus@0.80"
    assert mixed.info.overlap == max(a.info.overlap, b.info.overlap)
    image = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        soft, sharp, between = a(image), b(image), mixed(image)
    # Not a blend of the images, but nearer to the network it has more of.
    assert (between - sharp).square().mean() < (between - soft).square().mean()
