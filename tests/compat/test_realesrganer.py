"""Scripts for Real-ESRGAN: the arrays that its class gives, by a pass written down anew."""

from __future__ import annotations

import copy
import http.server
import math
import threading

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.published import BasicSRRRDBNet, SRVGGNetCompact
from esrgan_ext.compat import RealESRGANer, realesrganer
from esrgan_ext.errors import DeviceError, ImageError, ModelError, OptionError
from tests.conftest import make_network


def plane(module, rgb, scale, pre_pad=10):
    """One picture as the published class computes it, without tiles; RGB in [0, 1]."""
    h, w = rgb.shape[:2]
    x = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
    x = F.pad(x, (0, pre_pad, 0, pre_pad), "reflect") if pre_pad else x
    multiple = {1: 4, 2: 2}.get(scale, 1)
    x = F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), "reflect")
    with torch.no_grad():
        y = module(x)[0, :, : h * scale, : w * scale].clamp(0, 1)
    return y.numpy().transpose(1, 2, 0)


@pytest.fixture(params=[4, 2])
def module(request):
    torch.manual_seed(0)
    module = BasicSRRRDBNet(scale=request.param).eval()
    with torch.no_grad():
        module.conv_last.bias.fill_(0.5)
    return module


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_pictures_are_those_of_the_published_class(module, dtype, channels):
    shape = (14, 18) if channels is None else (14, 18, channels)
    full = np.iinfo(dtype).max
    img = np.random.default_rng(0).integers(0, full, shape, dtype)
    up = RealESRGANer(module.scale, None, model=module, device="cpu")
    result, mode = up.enhance(img)
    assert mode == {None: "L", 3: "RGB", 4: "RGBA"}[channels]
    values = img.astype(np.float32) / full
    if channels is None:
        planes = plane(module, np.repeat(values[..., None], 3, 2), module.scale)
        expected = planes @ np.array([0.299, 0.587, 0.114])
    else:
        expected = plane(module, values[..., 2::-1], module.scale)[..., ::-1]
    if channels == 4:
        alpha = plane(module, np.repeat(values[..., 3:], 3, 2), module.scale)
        expected = np.dstack((expected, alpha @ np.array([0.299, 0.587, 0.114])))
    assert result.dtype == dtype
    assert np.abs(result.astype(float) - expected * full).max() <= 0.5 + full * 1e-5


def test_outscale_tiles_and_linear_alpha(module):
    img = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    up = RealESRGANer(module.scale, None, model=module, device="cpu")
    whole, _ = up.enhance(img, alpha_upsampler="linear")
    size = (24 * module.scale, 20 * module.scale)
    linear = cv2.resize(img[..., 3].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(whole[..., 3] - linear).max() <= 0.51
    reduced, _ = up.enhance(img, outscale=1.5, alpha_upsampler="linear")
    assert np.array_equal(reduced, cv2.resize(whole, (36, 30), interpolation=cv2.INTER_LANCZOS4))
    tiled = RealESRGANer(module.scale, None, model=module, tile=8, tile_pad=32, device="cpu")
    assert np.abs(tiled.enhance(img)[0].astype(int) - up.enhance(img)[0]).max() <= 1


def test_a_name_and_two_models():
    img = np.random.default_rng(0).integers(0, 256, (12, 13, 3), np.uint8)
    names = ["lite-psnr-x4", "lite-esrgan-x4"]
    one = RealESRGANer(4, names[0], device="cpu").enhance(img)[0]
    mixed = RealESRGANer(4, names, dni_weight=[1.0, 0.0], device="cpu").enhance(img)[0]
    assert np.array_equal(one, mixed)
    with pytest.raises(OptionError, match="scale"):
        RealESRGANer(2, names[0], device="cpu")
    with pytest.raises(OptionError, match="shares"):
        RealESRGANer(4, names, device="cpu")


def test_an_image_smaller_than_its_padding_is_refused():
    up = RealESRGANer(4, "lite-psnr-x4", device="cpu")
    with pytest.raises(ImageError, match="pre_pad"):
        up.enhance(np.zeros((8, 30, 3), np.uint8))


def published(module, img, scale, *, tile, tile_pad, pre_pad, outscale, alpha_upsampler):
    """All of the published class's `enhance`, in float64 where it is not OpenCV's."""
    full = 65535 if img.max() > 256 else 255
    values = img.astype(np.float32) / full
    exact = copy.deepcopy(module).double()

    def run(rgb):
        h, w = rgb.shape[:2]
        x = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].double()
        x = F.pad(x, (0, pre_pad, 0, pre_pad), "reflect") if pre_pad else x
        multiple = {1: 4, 2: 2}.get(scale, 1)
        x = F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), "reflect")
        height, width = x.shape[2:]
        y = torch.zeros(1, 3, height * scale, width * scale, dtype=torch.float64)
        side = tile or max(height, width)
        for k in range(math.ceil(height / side) * math.ceil(width / side)):
            row, column = divmod(k, math.ceil(width / side))
            y0, x0 = row * side, column * side
            y1, x1 = min(y0 + side, height), min(x0 + side, width)
            top, left = max(y0 - tile_pad, 0), max(x0 - tile_pad, 0)
            part = x[:, :, top : min(y1 + tile_pad, height), left : min(x1 + tile_pad, width)]
            with torch.no_grad():
                done = exact(part)[:, :, (y0 - top) * scale :, (x0 - left) * scale :]
            size = ((y1 - y0) * scale, (x1 - x0) * scale)
            y[:, :, y0 * scale : y1 * scale, x0 * scale : x1 * scale] = done[
                :, :, : size[0], : size[1]
            ]
        return y[0, :, : h * scale, : w * scale].clamp(0, 1).numpy().transpose(1, 2, 0)

    to_gray = np.array([0.299, 0.587, 0.114])
    if img.ndim == 2:
        result = run(np.repeat(values[..., None], 3, 2)) @ to_gray
    else:
        result = run(values[..., 2::-1])[..., ::-1]
    if img.ndim == 3 and img.shape[2] == 4:
        if alpha_upsampler == "realesrgan":
            alpha = run(np.repeat(values[..., 3:], 3, 2)) @ to_gray
        else:
            size = (img.shape[1] * scale, img.shape[0] * scale)
            alpha = cv2.resize(values[..., 3], size, interpolation=cv2.INTER_LINEAR)
        result = np.dstack((result, alpha))
    result = (result * full).round().astype(np.uint16 if full > 255 else np.uint8)
    if outscale is not None and outscale != scale:
        size = (int(img.shape[1] * outscale), int(img.shape[0] * outscale))
        result = cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4)
    return result


PHOTOS = [f"{name}/LRx4/img_00{k}.png" for name, k in (("Set5", 1), ("Set5", 3), ("Set14", 5))]


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "kind", "arguments", "outscale", "alpha_upsampler"),
    [
        (PHOTOS[0], "RGB", {}, None, "realesrgan"),
        (PHOTOS[1], "RGB", {"tile": 12, "tile_pad": 6, "pre_pad": 0}, 3, "realesrgan"),
        (PHOTOS[2], "RGB", {"tile": 14, "tile_pad": 0, "pre_pad": 5, "half": True}, None, "x"),
        (PHOTOS[0], "RGBA", {"tile": 16}, 3.5, "realesrgan"),
        (PHOTOS[1], "RGBA 16", {}, None, "bicubic"),
        (PHOTOS[2], "L 16", {"tile": 10, "tile_pad": 4}, None, "realesrgan"),
    ],
    ids=str,
)
def test_photos_are_those_of_the_published_class(
    shared_data, module, name, kind, arguments, outscale, alpha_upsampler
):
    img = cv2.imread(str(shared_data / "bench" / name))
    assert img is not None
    img = img[10:35, 10:37]  # odd sides
    with torch.no_grad():  # a network that says something of its input, as trained ones do
        module.conv_last.weight.mul_(6)
    if kind.startswith("RGBA"):
        img = np.dstack((img, img[..., 1]))
    if kind.startswith("L"):
        img = img[..., 1]
    if kind.endswith("16"):
        img = img.astype(np.uint16) * 257
    up = RealESRGANer(module.scale, None, model=module, device="cpu", **arguments)
    result, mode = up.enhance(img, outscale, alpha_upsampler)
    assert mode == kind.split()[0]
    given = {"tile": 0, "tile_pad": 10, "pre_pad": 10, **arguments}
    given.pop("half", None)  # float32 on a CPU
    expected = published(
        module, img, module.scale, **given, outscale=outscale, alpha_upsampler=alpha_upsampler
    )
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert result.std() > 0.01 * np.iinfo(result.dtype).max  # a picture, not a plane
    # Float32 against float64, rounded; Lanczos' lobes add to that.
    most = 1 if result.dtype == np.uint8 else 8
    assert np.abs(result.astype(int) - expected).max() <= (2 * most if outscale else most)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PHOTOS)
def test_a_script_of_real_esrgans_gets_a_faithful_photo(shared_data, name):
    """What its inference script does, with a published model: nearer to the photo than bicubic."""
    img = cv2.imread(str(shared_data / "bench" / name))[:64, :64]
    truth = cv2.imread(str(shared_data / "bench" / name.replace("LRx4", "HR")))[:256, :256]
    output, _ = RealESRGANer(
        scale=4, model_path="lite-psnr-x4", tile=40, tile_pad=10, pre_pad=0, half=True, device="cpu"
    ).enhance(img, outscale=4)
    bicubic = cv2.resize(img, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert output.shape == truth.shape

    def error(picture):
        return ((picture.astype(float) - truth) ** 2).mean()

    assert error(output) < 0.9 * error(bicubic)


@pytest.fixture
def two_models(tmp_path):
    """Files of the kind of the general model's two."""
    for seed, name in enumerate(("realesr-general-x4v3", "realesr-general-wdn-x4v3")):
        torch.manual_seed(seed)
        torch.save({"params": SRVGGNetCompact(nf=8).state_dict()}, tmp_path / f"{name}.pth")
    return tmp_path


def test_a_script_with_a_denoising_strength_runs(two_models):
    """inference_realesrgan.py with the general model: a folder of pictures, two files."""
    img = np.random.default_rng(0).integers(0, 256, (24, 28, 4), np.uint8)
    (two_models / "inputs").mkdir()
    cv2.imwrite(str(two_models / "inputs" / "a.png"), img)
    cv2.imwrite(str(two_models / "inputs" / "b.png"), img[:8, :8])
    model_path = str(two_models / "realesr-general-x4v3.pth")
    strength = 0.3
    upsampler = RealESRGANer(
        scale=4,
        model_path=[model_path, model_path.replace("x4v3", "wdn-x4v3")],
        dni_weight=[strength, 1 - strength],
        model=SRVGGNetCompact(nf=8),
        tile=12,
        tile_pad=10,
        pre_pad=10,
        half=True,
        gpu_id=None,
    )
    caught = []
    for path in sorted((two_models / "inputs").iterdir()):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        try:
            output, mode = upsampler.enhance(picture, outscale=3.5)
        except RuntimeError as error:  # as the script does
            caught.append(str(error))
            continue
        assert (output.shape, output.dtype, mode) == ((84, 98, 4), np.uint8, "RGBA")
        first, second = (
            torch.load(two_models / f"{name}.pth")["params"]
            for name in ("realesr-general-x4v3", "realesr-general-wdn-x4v3")
        )
        mixed = SRVGGNetCompact(nf=8)
        mixed.load_state_dict(
            {key: strength * first[key] + (1 - strength) * second[key] for key in first}
        )
        sizes = {"tile": 12, "tile_pad": 10, "pre_pad": 10}
        expected = published(mixed, picture, 4, **sizes, outscale=3.5, alpha_upsampler="realesrgan")
        if upsampler.device.type == "cpu":
            assert np.abs(output.astype(int) - expected).max() <= 2
    assert len(caught) == 1  # the small one cannot be reflected by 10
    assert "pre_pad" in caught[0]


class Weights(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


def test_the_address_of_weights_is_downloaded_once(two_models, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(two_models / "cache"))
    file = two_models / "realesr-general-x4v3.pth"
    img = np.random.default_rng(0).integers(0, 256, (12, 13, 3), np.uint8)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weights) as server:
        server.content, server.asked = file.read_bytes(), []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/v1/own.pth"
        results = [
            RealESRGANer(4, path, device="cpu").enhance(img)[0]
            for path in (address, address, str(file))
        ]
        server.shutdown()
    assert server.asked == ["/v1/own.pth"]
    assert np.array_equal(results[0], results[2])
    assert np.array_equal(results[1], results[2])


def test_the_published_address_of_a_model_is_the_catalogues(monkeypatch):
    seen = []
    monkeypatch.setattr(realesrganer, "download", None)
    monkeypatch.setattr(realesrganer, "load_model", lambda m: seen.append(m) or make_network())
    release = "https://github.com/xinntao/Real-ESRGAN/releases/download"
    for file in ("v0.1.0/RealESRGAN_x4plus.pth", "v0.2.5.0/realesr-general-x4v3.pth"):
        RealESRGANer(4, f"{release}/{file}", device="cpu")
    assert seen == ["realesrgan-x4plus", "realesr-general-x4v3"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model_path": "nothing.pth"}, ModelError, r"nothing\.pth"),
        ({"model_path": None}, OptionError, "model_path or model"),
        ({"dni_weight": [0.5, 0.6], "model_path": ["lite-psnr-x4"] * 2}, OptionError, "add up"),
        ({"dni_weight": [0.5, 0.5], "model_path": ["lite-psnr-x4"]}, OptionError, "two models"),
        ({"dni_weight": [1.5, -0.5], "model_path": ["lite-psnr-x4"] * 2}, OptionError, "alpha"),
        ({"device": "tpu"}, OptionError, "device must be"),
        ({"device": "cuda:99"}, DeviceError, "cuda:99"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used_are_refused_in_words(arguments, error, words):
    with pytest.raises(error, match=words):
        RealESRGANer(**{"scale": 4, "model_path": "lite-psnr-x4", **arguments})


@pytest.mark.parametrize(
    ("img", "options", "error", "words"),
    [
        (None, {}, ImageError, "cv2.imread"),
        (np.zeros((20, 20, 2), np.uint8), {}, ImageError, "H, W, 3"),
        (np.zeros((0, 20, 3), np.uint8), {}, ImageError, "H, W, 3"),
        (np.zeros((20, 20, 3), np.uint8), {"outscale": 0}, OptionError, "no pixel"),
        (np.zeros((20, 20, 3), np.uint8), {"outscale": float("nan")}, OptionError, "no pixel"),
    ],
    ids=str,
)
def test_images_that_cannot_be_used_are_refused_in_words(img, options, error, words):
    up = RealESRGANer(4, "lite-psnr-x4", device="cpu")
    with pytest.raises(error, match=words):
        up.enhance(img, **options)
