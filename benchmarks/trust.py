"""How true to the data are the models? Figures of docs/trust.md, image by image.

Every image is averaged down by four, upscaled as `esr.upscale` does without a word (or by the named
models), and compared with what it was averaged from. PSNR takes the original's own extent as peak;
figures are dB above bicubic interpolation of the same pixels, rounded to the image's type as
results are.

    python -m benchmarks.trust microscopy FOLDER [--model NAME ...] [--json FILE]
    python -m benchmarks.trust microscopy FOLDER --every 5 --model auto  # the held-out fifth
    python -m benchmarks.trust photos FOLDER --plain
    python -m benchmarks.trust spread FOLDER --model auto

Pixels within 3 of a hot one do not count: it is lost to everybody.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

import esrgan_ext as esr
from esrgan_ext.inference.files import read_image
from esrgan_ext.inference.resample import PieceResampler
from esrgan_ext.inference.tiles import Rect

FACTOR = 4
MODELS = (
    "auto",
    "lite-micro-x4",
    "lite-micro-denoise-x4",
    "lite-psnr-x4",
    "lite-esrgan-x4",
    "realesrgan-x4plus",
    "realesrgan-x4plus-anime",
    "realsr-df2k",
    "realesr-animevideov3-x4",
)
PHOTONS = (1000, 100, 30)
READ_NOISE = 1.6  # electrons
BORDER = FACTOR

# Share of hot pixels in the cases of that name, and how far around each nothing counts.
HOT = 1 / 1000
NEAR = 3

# A stack gives this many planes, evenly spaced.
PLANES = 5

Make = Callable[[np.ndarray], np.ndarray]


def planes(folder: Path, every: int = 1) -> Iterator[tuple[str, np.ndarray]]:
    """Gray planes, or RGB images, of a folder; those too small or without a value are left out.

    Of the files, sorted by name, one in `every` is taken, beginning with the first.
    """
    kinds = (".tif", ".tiff", ".png", ".jpg")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds)
    for path in files[::every]:
        image = read_image(path)
        pixels = image.pixels
        if image.channel_axis is not False and pixels.ndim == 3:
            yield path.stem, pixels[..., :3]
            continue
        if image.channel_axis is not False:  # a stack in colour: the channel that shows most
            pixels = pixels[..., int(pixels.reshape(-1, pixels.shape[-1]).std(0).argmax())]
        stack = pixels.reshape(-1, *pixels.shape[-2:])
        chosen = np.unique(np.linspace(0, len(stack) - 1, PLANES + 2)[1:-1].round().astype(int))
        for number in chosen if len(stack) > PLANES else range(len(stack)):
            plane = stack[number]
            if np.isfinite(plane).all() and plane.min() < plane.max() and min(plane.shape) >= 48:
                yield (path.stem if len(stack) == 1 else f"{path.stem}[{number}]"), plane


def averaged(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image, cut to whole blocks, and the means of its blocks, in float64."""
    height, width = (side // FACTOR * FACTOR for side in image.shape[:2])
    image = image[:height, :width].astype(np.float64)
    blocks = image.reshape(height // FACTOR, FACTOR, width // FACTOR, FACTOR, *image.shape[2:])
    return image, blocks.mean((1, 3))


def bicubic(image: np.ndarray) -> np.ndarray:
    """Keys' bicubic interpolation, in float32 on values from 0 to 1."""
    low, span = float(image.min()), float(np.ptp(image)) or 1.0
    channels = np.moveaxis(
        np.atleast_3d((image.astype(np.float64) - low) / span).astype(np.float32), -1, 0
    )
    height, width = image.shape[:2]
    size = (height * FACTOR, width * FACTOR)
    resampler = PieceResampler(
        (height, width), size, Rect(0, height, 0, width), Rect(0, size[0], 0, size[1])
    )
    out = np.concatenate([piece for _, piece in resampler.feed(channels)], 1)
    out = np.moveaxis(out, 0, -1) * span + low
    return out if image.ndim == 3 else out[..., 0]


def psnr(result: np.ndarray, original: np.ndarray, peak: float) -> float:
    cut = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = np.mean((result[cut].astype(np.float64) - original[cut]) ** 2)
    return float(10 * np.log10(peak**2 / max(error, 1e-12)))


def rounded(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "iu":
        return image.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(image), limits.min, limits.max).astype(dtype)


def exposed(image: np.ndarray, photons: float, seed: int) -> tuple[np.ndarray, float, float]:
    """What a camera with 12 bits in 16 sees of an image whose brightest pixel gets so many photons,
    and the gain and offset from the image's values to the camera's."""
    low, span = image.min(), np.ptp(image) or 1.0
    rng = np.random.default_rng(seed)
    electrons = rng.poisson((image - low) / span * photons) + rng.normal(0, READ_NOISE, image.shape)
    gain = 3000 / photons
    seen = rounded(100 + electrons * gain, np.dtype(np.uint16))
    return seen, 3000 / span, 100 - low * 3000 / span


def cases(image: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, what is upscaled, and what it should become."""
    original, small = averaged(image)
    yield "clean", rounded(small, image.dtype), original
    if image.ndim == 3:
        return
    low, span = small.min(), np.ptp(small) or 1.0
    twelve = rounded(100 + (small - low) / span * 1900, np.dtype(np.uint16))
    yield "12 bits", twelve, 100 + (original - low) / span * 1900
    yield "12 bits, hot", with_hot(twelve, seed), 100 + (original - low) / span * 1900
    for photons in PHOTONS:
        seen, gain, offset = exposed(small, photons, seed)
        yield f"{photons} photons", seen, original * gain + offset
        if photons == PHOTONS[0]:
            yield f"{photons} photons, hot", with_hot(seen, seed), original * gain + offset


def hot_places(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """True at the hot pixels of an image of that shape."""
    mask = np.zeros(shape, bool)
    count = max(1, round(mask.size * HOT))
    mask.flat[np.random.default_rng(seed).choice(mask.size, count, replace=False)] = True
    return mask


def with_hot(image: np.ndarray, seed: int) -> np.ndarray:
    """A copy with hot pixels of 10000 to 65535."""
    mask = hot_places(image.shape, seed)
    copy = image.copy()
    copy[mask] = np.random.default_rng(seed + 1).integers(10_000, 65_536, int(mask.sum()))
    return copy


def without_hot(case: str, seed: int, result: np.ndarray, original: np.ndarray) -> np.ndarray:
    """A result with what lies near hot pixels put right: they are lost to everybody."""
    if not case.endswith("hot"):
        return result
    mask = hot_places(tuple(side // FACTOR for side in original.shape), seed)
    side = 2 * NEAR + 1
    near = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    return np.where(near.repeat(FACTOR, 0).repeat(FACTOR, 1), original, result)


def made(model: str) -> esr.Upscaler:
    """ "auto" denoises as it does without a word, named models are run as they stand."""
    return esr.Upscaler(model, device="cpu", denoise="auto" if model == "auto" else None)


def exactly(upscaler: esr.Upscaler, image: np.ndarray, axis: int | bool) -> np.ndarray:
    """The result projected onto what was measured."""
    options = {**vars(upscaler.options), "consistent": True}
    return esr.Upscaler(
        upscaler.for_image(image.shape, image.dtype, channel_axis=axis).network, **options
    )(image, channel_axis=axis)


def measured(
    chosen: Iterator[tuple[str, np.ndarray]],
    models: list[str],
    wanted: set[str],
    plain_only: bool,
    report: Callable[[dict], None],
) -> None:
    """Every case of every plane by every model, each without projection and with it."""
    upscalers = {name: made(name) for name in models}
    for seed, (name, image) in enumerate(chosen):
        for case, small, original in cases(image, seed):
            if wanted and case not in wanted:
                continue
            peak = float(np.ptp(original))
            axis = 2 if image.ndim == 3 else False
            plain = rounded(bicubic(small), small.dtype)
            base = psnr(without_hot(case, seed, plain, original), original, peak)
            for model, upscaler in upscalers.items():
                result = upscaler(small, channel_axis=axis)
                row = {"image": name, "case": case, "model": model, "bicubic": base}
                results = {"gain": result}
                if not plain_only:
                    results["consistent"] = exactly(upscaler, small, axis)
                for key, found in results.items():
                    cleared = without_hot(case, seed, found, original)
                    row[key] = psnr(cleared, original, peak) - base
                report(row)


def spread(
    chosen: Iterator[tuple[str, np.ndarray]],
    model: str,
    wanted: set[str],
    report: Callable[[dict], None],
) -> None:
    """Spread over flips and rotations against the true error, in tenths of all pixels."""
    upscaler = made(model)
    stds, errors = [], []
    for seed, (_, image) in enumerate(chosen):
        for case, seen, original in cases(image, seed):
            if case not in (wanted or {"clean"}):
                continue
            mean, std = upscaler(
                seen.astype(np.float32),
                channel_axis=2 if image.ndim == 3 else False,
                return_std=True,
            )
            peak = np.ptp(original)
            stds.append((std / peak).ravel())
            errors.append((np.abs(mean - original) / peak).ravel())
    all_std, all_errors = np.concatenate(stds), np.concatenate(errors)
    edges = np.quantile(all_std, np.linspace(0, 1, 11))
    for low, high in pairwise(edges):
        inside = (all_std >= low) & (all_std <= high)
        report(
            {
                "spread": float(np.median(all_std[inside])),
                "rms error": float(np.sqrt(np.mean(all_errors[inside] ** 2))),
                "rms error over spread": float(
                    np.sqrt(np.mean(all_errors[inside] ** 2) / np.mean(all_std[inside] ** 2))
                ),
                "error of 95 %": float(np.quantile(all_errors[inside], 0.95)),
                "below 2 spreads": float(np.mean(all_errors[inside] <= 2 * all_std[inside])),
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("microscopy", "photos", "spread"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", help="may be repeated")
    parser.add_argument("--case", action="append", default=[], help="may be repeated")
    parser.add_argument("--every", type=int, default=1, help="one in so many files, sorted by name")
    parser.add_argument("--plain", action="store_true", help="without the projected results")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    rows: list[dict] = []

    def report(row: dict) -> None:
        rows.append(row)
        values = (f"{v:+.5f}" if isinstance(v, float) else str(v) for v in row.values())
        print("  ".join(values), flush=True)

    chosen = planes(arguments.folder, arguments.every)
    models = arguments.model or list(MODELS)
    if arguments.what == "spread":
        spread(chosen, models[0], set(arguments.case), report)
    else:
        measured(chosen, models, set(arguments.case), arguments.plain, report)
        for model in dict.fromkeys(row["model"] for row in rows):
            for case in dict.fromkeys(row["case"] for row in rows):
                found = [row for row in rows if row["model"] == model and row["case"] == case]
                line = f"{model:24s} {case:18s}"
                for key in ("gain",) if arguments.plain else ("gain", "consistent"):
                    values = [row[key] for row in found]
                    line += f" {key}: mean {np.mean(values):+.2f} worst {np.min(values):+.2f} "
                print(line)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
