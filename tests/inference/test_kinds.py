"""Images of other libraries go in and come out as what they are, with the array's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import esrgan_ext
from esrgan_ext.errors import ImageError, OptionError

DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.float32, torch.float64]


@pytest.fixture(scope="module")
def upscaler(tiny_network):
    return esrgan_ext.Upscaler(tiny_network, device="cpu")


def tensor(shape, dtype=torch.float32):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * torch.iinfo(dtype).max).to(dtype)


def by_array(upscaler, t, **options):
    return upscaler(t.numpy(), channel_axis=t.ndim - 3, data_range="type", **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 7, 9), (2, 7, 9), (3, 7, 9), (4, 7, 9), (2, 3, 7, 9)])
def test_a_tensor_equals_the_array_to_the_bit(upscaler, shape, dtype):
    t = tensor(shape, dtype)
    result = upscaler(t)
    assert isinstance(result, torch.Tensor)
    assert (result.dtype, result.device) == (dtype, t.device)
    assert result.shape == (*shape[:-2], 28, 36)
    assert np.array_equal(result.numpy(), by_array(upscaler, t))


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t[:, :, ::2, 1:],
        lambda t: t.transpose(2, 3),
        lambda t: t.expand(3, 3, 8, 10),
        lambda t: t.flip(1),
        lambda t: t.requires_grad_(),
    ],
)
def test_strides_views_and_gradients(upscaler, view):
    t = view(tensor((1, 3, 8, 10)))
    plain = t.detach().clone(memory_format=torch.contiguous_format)
    result = upscaler(t)
    assert not result.requires_grad
    assert np.array_equal(result.numpy(), by_array(upscaler, plain))


def test_a_batch_equals_its_images(upscaler):
    batch = tensor((3, 3, 8, 10))
    assert torch.equal(upscaler(batch), torch.stack([upscaler(one) for one in batch]))


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu")])
def test_modes_of_torch_change_nothing(upscaler, mode):
    t = tensor((3, 8, 10))
    expected = upscaler(t)
    with mode():
        assert torch.equal(upscaler(t), expected)


def test_bfloat16_is_rounded_at_the_end(upscaler):
    t = tensor((3, 8, 10)).bfloat16()
    result = upscaler(t)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, upscaler(t.float()).bfloat16())
    mean, spread = upscaler(t, return_std=True)
    assert (mean.dtype, spread.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    "options",
    [{"outscale": 2.5}, {"tile": 5}, {"ensemble": True}, {"consistent": True}],
    ids=str,
)
def test_options_are_the_arrays(tiny_network, options):
    t = tensor((2, 3, 8, 10))
    found = esrgan_ext.upscale(t, tiny_network, device="cpu", **options)
    expected = esrgan_ext.upscale(
        t.numpy(), tiny_network, device="cpu", channel_axis=1, data_range="type", **options
    )
    assert np.array_equal(found.numpy(), expected)


def test_range_progress_cancel_and_spread(upscaler):
    t = tensor((3, 8, 10)) * 300
    assert np.array_equal(
        upscaler(t, data_range=(0, 300)).numpy(),
        upscaler(t.numpy(), channel_axis=0, data_range=(0, 300)),
    )
    seen = []
    upscaler(t, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (80, 80)
    with pytest.raises(esrgan_ext.UpscaleCancelled):
        upscaler(t, progress=lambda *_: False)
    again = torch.zeros(3, 32, 40)
    upscaler(t, on_tile=lambda piece, where: again[where].copy_(piece))
    assert torch.equal(again, upscaler(t))
    mean, spread = upscaler(t, return_std=True)
    assert isinstance(mean, torch.Tensor)
    assert spread.shape == mean.shape


@pytest.mark.parametrize(
    "wrong", [torch.rand(8, 8), torch.rand(5, 8, 8), torch.rand(1, 8, 8, 3), torch.rand(3, 0, 4)]
)
def test_other_shapes_are_refused(upscaler, wrong):
    with pytest.raises(ImageError):
        upscaler(wrong)


def test_a_channel_axis_or_an_out_is_refused(upscaler):
    with pytest.raises(OptionError, match="channel_axis"):
        upscaler(tensor((3, 8, 8)), channel_axis=0)
    with pytest.raises(OptionError, match="out"):
        upscaler(tensor((3, 8, 8)), out=np.empty((3, 32, 32), np.float32))


@pytest.mark.parametrize("name", ["photo.png", b"photo.png"])
def test_the_name_of_a_file_says_what_to_use(upscaler, name):
    with pytest.raises(OptionError, match="upscale_file"):
        upscaler(name)


class Namespace:
    """Of arrays of another library, as CuPy and JAX have it."""

    @staticmethod
    def asarray(values):
        return OtherArray(np.asarray(values))


class OtherArray:
    def __init__(self, values):
        self.values = values

    def __array_namespace__(self):
        return Namespace

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_arrays_with_dlpack_come_back_as_their_kind(upscaler):
    values = tensor((8, 10, 3)).numpy()
    result = upscaler(OtherArray(values))
    assert isinstance(result, OtherArray)
    assert np.array_equal(result.values, upscaler(values))


def test_xarray_keeps_coordinates_and_attributes(upscaler):
    xarray = pytest.importorskip("xarray")
    image = xarray.DataArray(
        tensor((3, 4, 5)).numpy(),
        dims=("band", "y", "x"),
        coords={"band": ["r", "g", "b"], "y": [30.0, 20.0, 10.0, 0.0], "x": np.arange(5)},
        attrs={"units": "counts"},
        name="plate",
    )
    result = upscaler(image)
    assert result.dims == image.dims
    assert (result.attrs, result.name) == (image.attrs, image.name)
    assert list(result.band.values) == ["r", "g", "b"]
    # The centres of four pixels that fill the place of one.
    assert np.allclose(result.y.values[:4], [33.75, 31.25, 28.75, 26.25])
    assert np.allclose(result.x.values[-4:], [3.625, 3.875, 4.125, 4.375])
    assert np.array_equal(result.values, upscaler(image.values, channel_axis=0))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F", "P", "1"])
def test_pil_images_come_back_as_such(upscaler, mode):
    pil = pytest.importorskip("PIL.Image")
    if mode == "I;16":
        image = pil.fromarray(tensor((1, 7, 9), torch.uint16).numpy()[0])
    else:
        image = pil.fromarray(tensor((7, 9, 3), torch.uint8).numpy()).convert(mode)
    result = upscaler(image)
    assert isinstance(result, pil.Image)
    assert result.size == (36, 28)
    assert result.mode == {"P": "RGB", "1": "L"}.get(mode, mode)


def test_pil_images_of_other_modes_are_refused(upscaler):
    pil = pytest.importorskip("PIL.Image")
    with pytest.raises(ImageError, match="CMYK"):
        upscaler(pil.new("CMYK", (4, 4)))
