"""HR images and the LR images that belong to them, from files to 8-bit pixels.

What does not pair, or cannot be compared, is told apart from what can, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esrgan_ext.errors import ImageError, ImageFileError, OptionError
from esrgan_ext.inference.files import ImageFile, read_image
from esrgan_ext.inference.folder import images_below
from esrgan_ext.inference.headers import MAX_PIXELS, read_header
from esrgan_ext.inference.resample import imresize


@dataclass(frozen=True)
class PairFiles:
    """An HR image and its LR image.

    Attributes
    ----------
    name
        Path of the HR image within its folder.
    hr, lr
        `lr` is None where it is to be made from the HR image.
    """

    name: str
    hr: Path
    lr: Path | None

    def lr_pixels(self, scale: int) -> int:
        """Pixels of the LR image according to the headers; 0 where they cannot be read."""
        try:
            header = read_header(self.lr or self.hr)
        except ImageFileError:
            return 0
        factor = scale if self.lr is None else 1
        return (header.width // factor) * (header.height // factor)


@dataclass(frozen=True, eq=False)
class Pair:
    """Pixels of an HR image and of its LR image, both gray or both RGB.

    Attributes
    ----------
    hr : ndarray, shape (scale * H, scale * W) or (scale * H, scale * W, 3), uint8
    lr : ndarray, shape (H, W) or (H, W, 3), uint8
    """

    hr: np.ndarray
    lr: np.ndarray


@dataclass(frozen=True)
class Failure:
    """A file that was not evaluated, and why."""

    file: str
    reason: str


def find_pairs(
    hr: Path, lr: Path | None, scale: int, *, recursive: bool = False
) -> tuple[list[PairFiles], list[Failure]]:
    """Which LR image belongs to which HR image.

    Parameters
    ----------
    hr, lr
        Two folders, or two image files. In folders an LR image has the HR image's relative path
        and name but for the suffix, or that name with ``x4`` or ``_x4`` (the scale) after it.
    scale
        HR pixels per LR pixel along each axis.
    recursive
        Include subfolders.

    Returns
    -------
    pairs, failures
        The failures are images of either folder without a partner.

    Raises
    ------
    OptionError
        A folder does not exist, or there is not one image in it.
    """
    for path in (hr, lr):
        if path is not None and not path.exists():
            raise OptionError(f"{path}: there is no such file or folder")
    if not hr.is_dir():
        if lr is not None and lr.is_dir():
            raise OptionError(f"{lr}: is a folder; a single HR image takes a single LR image")
        return [PairFiles(hr.name, hr, lr)], []
    high = list(images_below(hr, recursive=recursive))
    if not high:
        below = "" if recursive else "; for the folders below give recursive"
        raise OptionError(f"{hr}: no images in this folder{below}")
    if lr is None:
        return [PairFiles(path.relative_to(hr).as_posix(), path, None) for path in high], []
    if not lr.is_dir():
        raise OptionError(f"{lr}: is a file; a folder of HR images takes a folder of LR images")
    low = list(images_below(lr, recursive=recursive))
    return _matched(hr, high, lr, low, scale)


def _matched(
    hr: Path, high: list[Path], lr: Path, low: list[Path], scale: int
) -> tuple[list[PairFiles], list[Failure]]:
    by_stem: dict[Path, list[Path]] = {}
    for path in low:
        by_stem.setdefault(path.relative_to(lr).with_suffix(""), []).append(path)
    pairs, failures, used = [], [], set()
    for path in high:
        relative = path.relative_to(hr)
        candidates = next(_candidates(relative, by_stem, scale), [])
        if len(candidates) > 1:  # img.png and img.jpg: the one of the same format
            candidates = [c for c in candidates if c.suffix.lower() == path.suffix.lower()]
        if len(candidates) == 1 and candidates[0] not in used:
            used.add(candidates[0])
            pairs.append(PairFiles(relative.as_posix(), path, candidates[0]))
        else:
            failures.append(Failure(str(path), f"no LR image of this name in {lr}"))
    for path in low:
        if path not in used:
            failures.append(Failure(str(path), f"no HR image of this name in {hr}"))
    return pairs, failures


def _candidates(
    relative: Path, by_stem: dict[Path, list[Path]], scale: int
) -> Iterator[list[Path]]:
    for ending in ("", f"x{scale}", f"_x{scale}"):
        if found := by_stem.get(relative.with_name(relative.stem + ending)):
            yield found


def read_pair(files: PairFiles, scale: int, *, max_pixels: int = MAX_PIXELS) -> Pair:
    """Read both images of a pair.

    Rows below and columns at the right of the HR image that no whole LR pixel covers are cut
    off. Without a file, the LR image is what MATLAB's bicubic imresize makes of the HR image.

    Raises
    ------
    ImageFileError
        A file cannot be read.
    ImageError
        They are no pair: their sizes or channels do not belong together; or one is transparent,
        a stack, or of floats.
    """
    hr = eight_bit(read_image(files.hr, max_pixels=max_pixels))
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if min(height, width) < 1:
        raise ImageError(f"{hr.shape[1]} x {hr.shape[0]} pixels are too few for x{scale}")
    hr = hr[: height * scale, : width * scale]
    if files.lr is None:
        return Pair(hr, imresize(hr, (height, width)))
    lr = eight_bit(read_image(files.lr, max_pixels=max_pixels))
    if lr.shape[:2] != (height, width):
        raise ImageError(
            f"{files.lr.name} has {lr.shape[1]} x {lr.shape[0]} pixels; at x{scale} this image "
            f"needs {width} x {height}"
        )
    if lr.ndim != hr.ndim:
        gray, colour = ("LR", "HR") if lr.ndim < hr.ndim else ("HR", "LR")
        raise ImageError(f"the {gray} image is gray and the {colour} image is not")
    return Pair(hr, lr)


def eight_bit(image: ImageFile) -> np.ndarray:
    """Pixels as the metrics take them: uint8, gray or RGB.

    16 bits are rounded to 8; an alpha channel is dropped where it is opaque everywhere.

    Raises
    ------
    ImageError
        It is a stack, has other channels or pixels of another type, or is transparent somewhere.
    """
    if image.further:
        raise ImageError(f"it holds {1 + len(image.further)} images; metrics compare single ones")
    pixels = image.pixels
    colour = image.channel_axis is not False
    if pixels.ndim != (3 if colour else 2):
        raise ImageError("it is a stack of planes; metrics compare single images")
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ImageError(f"it holds {pixels.dtype} pixels; metrics compare 8 or 16 bits")
    if not colour:
        return pixels
    channels = pixels.shape[2]
    if channels in (2, 4):
        if (pixels[..., -1] != 255).any():
            raise ImageError("it is transparent in places; metrics have no meaning there")
        pixels = pixels[..., :-1]
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    if pixels.shape[2] != 3:
        raise ImageError(f"it has {channels} channels; metrics compare gray or RGB")
    return np.ascontiguousarray(pixels)
