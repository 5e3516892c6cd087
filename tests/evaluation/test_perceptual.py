"""The perceptual distance: against values of the published implementation."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from esrgan_ext.errors import ImageError, ModelError, OptionError, OutOfMemory
from esrgan_ext.evaluation import perceptual
from esrgan_ext.evaluation.perceptual import PerceptualDistance, load_perceptual
from esrgan_ext.evaluation.st_lpips import BlurPool, ShiftTolerantLPIPS
from esrgan_ext.inference.resample import imresize

PHOTO = Path(__file__).parent.parent / "data" / "astronaut_320.png"


def images(kind: str) -> tuple[np.ndarray, np.ndarray]:
    photo = cv2.imread(str(PHOTO))[..., ::-1].copy()
    noise = np.random.default_rng(0).integers(0, 256, (2, 67, 93, 3), np.uint8)
    bicubic = imresize(imresize(photo, (80, 80)), (320, 320))
    return {
        "noise": (noise[0], noise[1]),
        "crops of noise": (noise[0, :32, :40], noise[1, :32, :40]),
        "bicubic": (bicubic, photo),
        "crop of bicubic": (bicubic[60:160, 100:180], photo[60:160, 100:180]),
        "shifted": (photo[1:, 1:], photo[:-1, :-1]),
    }[kind]


@pytest.fixture(scope="module")
def st_lpips(published_wheel) -> PerceptualDistance:
    return load_perceptual(published_wheel(perceptual.ST_LPIPS_WHEEL))


# What LPIPS(net="alex", variant="shift_tolerant") of stlpips-pytorch 0.0.2 returns for them.
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("noise", 0.03789861500263214),
        ("crops of noise", 0.06505732238292694),
        ("bicubic", 0.33710777759552),
        ("shifted", 0.005858864169567823),
    ],
)
def test_equals_the_published_implementation(st_lpips, kind, expected):
    image, reference = images(kind)
    assert st_lpips(image, reference, border=0) == pytest.approx(expected, rel=1e-4)


def test_equal_images_have_no_distance(st_lpips):
    _, photo = images("crop of bicubic")
    assert st_lpips(photo, photo) == 0


def test_the_border_is_cut(st_lpips):
    image, reference = images("crop of bicubic")
    inside = (slice(4, -4), slice(4, -4))
    cut = st_lpips(image[inside], reference[inside], border=0)
    assert st_lpips(image, reference) == cut


def test_gray_is_rgb_with_equal_channels(st_lpips):
    image, reference = (pixels[..., 1] for pixels in images("crop of bicubic"))
    colour = (np.repeat(pixels[..., None], 3, 2) for pixels in (image, reference))
    assert st_lpips(image, reference) == st_lpips(*colour)


def test_blur_pool_by_hand():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 16.0
    # Padded by two, pixel (1, 1) is at (3, 3), and mirrored (column -1 is column 1) at 1 too.
    # Windows start at 0, 2 and 4: two of them see one of these pixels along each axis.
    expected = torch.tensor([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(BlurPool()(x)[0, 0], expected)


def test_weights_are_found_by_name(published_wheel, monkeypatch, tmp_path):
    wheel = published_wheel(perceptual.ST_LPIPS_WHEEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESRGAN_MODEL_DIR", str(wheel.parent))
    assert perceptual.find_st_lpips() == wheel
    assert load_perceptual().name == "ST-LPIPS"


def test_missing_weights_say_how_they_are_fetched(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip download --no-deps stlpips-pytorch==0\.0\.2"):
        load_perceptual()


def published_layout() -> dict[str, torch.Tensor]:
    """Tensors named and shaped as in the published file, random."""
    network = ShiftTolerantLPIPS()
    convolutions = [m for m in network.layers.modules() if isinstance(m, torch.nn.Conv2d)]
    numbers = ((1, 0), (2, 5), (3, 9), (4, 11), (5, 13))
    state = {}
    for (part, number), layer in zip(numbers, convolutions, strict=True):
        state[f"net.slice{part}.{number}.weight"] = torch.rand_like(layer.weight)
        state[f"net.slice{part}.{number}.bias"] = torch.rand_like(layer.bias)
    for number, head in enumerate(network.heads):
        state[f"lin{number}.model.1.weight"] = torch.rand_like(head.weight)
    return state


def test_an_extracted_file_is_read(tmp_path):
    path = tmp_path / "alex_shift_tolerant.pth"
    torch.save(published_layout(), path)
    distance = load_perceptual(path)
    assert distance(*images("noise")) > 0


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "pickle", "wheel", "absent"])
def test_damaged_weights_are_refused(tmp_path, damage):
    path = tmp_path / "alex_shift_tolerant.pth"
    state = published_layout()
    if damage == "missing":
        del state["lin3.model.1.weight"]
    elif damage == "shape":
        state["net.slice1.0.weight"] = torch.zeros(64, 3, 7, 7)
    elif damage == "nan":
        state["net.slice1.0.bias"][0] = float("nan")
    torch.save(state, path)
    if damage == "pickle":
        torch.save({"weights": Path("x")}, path)
    elif damage == "wheel":
        path = path.rename(tmp_path / perceptual.ST_LPIPS_WHEEL)
    elif damage == "absent":
        path.unlink()
    with pytest.raises(ModelError, match=path.name):
        load_perceptual(path)


def test_images_that_cannot_be_compared_are_refused(tmp_path):
    path = tmp_path / "alex_shift_tolerant.pth"
    torch.save(published_layout(), path)
    distance = load_perceptual(path)
    assert distance(*np.zeros((2, 29, 29), np.uint8)) == 0  # the smallest with a border of 4
    for image, reference in (
        np.zeros((2, 28, 29), np.uint8),
        np.zeros((2, 40, 40, 4), np.uint8),
        np.zeros((2, 40, 40)),
        (np.zeros((40, 40), np.uint8), np.zeros((40, 41), np.uint8)),
    ):
        with pytest.raises(ImageError):
            distance(image, reference)


def test_an_image_too_large_for_memory_says_so():
    def allocate(image, reference):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    distance = PerceptualDistance("ST-LPIPS", allocate, torch.device("cpu"))
    with pytest.raises(OutOfMemory, match="ST-LPIPS of 32 x 32 pixels"):
        distance(*np.zeros((2, 40, 40), np.uint8))


def test_lpips_library_gets_what_it_takes(monkeypatch):
    """RGB in [0, 1] with normalize=True, which maps it to [-1, 1]."""
    calls = []

    class LPIPS(torch.nn.Module):
        def __init__(self, net, version, verbose):
            super().__init__()
            assert (net, version, verbose) == ("alex", "0.1", False)

        def forward(self, image, reference, normalize=False):
            calls.append((image, reference, normalize))
            return (image - reference).abs().mean().reshape(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=LPIPS))
    distance = load_perceptual("lpips")
    assert distance.name == "LPIPS"
    white, black = np.full((40, 40, 3), 255, np.uint8), np.zeros((40, 40, 3), np.uint8)
    assert distance(white, black) == 1
    ((image, reference, normalize),) = calls
    assert image.shape == (1, 3, 32, 32)
    assert (image == 1).all()
    assert (reference == 0).all()
    assert normalize


def test_without_lpips_the_error_says_what_it_takes(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(OptionError, match="torchvision"):
        load_perceptual("lpips")
