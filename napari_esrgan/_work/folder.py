"""Upscales a folder of image files as if each were a layer, into OME-TIFF files.

Runs in a worker thread. A file that cannot be read or done is reported, and the others go on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_ext.errors import EsrganError, OptionError, UpscaleCancelled
from napari_esrgan._work.axes import doubtful_axis, guess_axes, whole
from napari_esrgan._work.messages import (
    Cancelled,
    FileDone,
    FolderOutcome,
    LayerOutcome,
    Progress,
    Report,
    stop_if,
)
from napari_esrgan._work.ome_tiff import OmeImage, ome_axes, write_ome_tiff
from napari_esrgan._work.pixel_size import scale_for
from napari_esrgan._work.ranges import RangeChoice, default_kind
from napari_esrgan._work.request import FolderRequest, UpscaleRequest
from napari_esrgan._work.upscale import run_upscale

if TYPE_CHECKING:
    from esrgan_ext.inference.files import ImageFile

SUFFIX = ".ome.tif"

# The bar moves within a file as well; a file is this many of its steps.
_STEPS = 1000

# What a file may fail of without stopping the others; anything else is a bug, and stops.
_EXPECTED = (EsrganError, MemoryError, OSError)


def run_folder(request: FolderRequest, report: Report, cancelled: Cancelled) -> FolderOutcome:
    """Upscale the files one after the other.

    Parameters
    ----------
    request : FolderRequest
    report : callable
        Gets `Progress`, whose total counts files, and a `FileDone` after each file.
    cancelled : callable
        Asked often; True stops within one step of the network. Files that are finished stay, the
        one under way leaves nothing.

    Raises
    ------
    OptionError
        There is nothing to do, or the results would take the place of the images.
    OSError
        The folder of the results cannot be made.
    UpscaleCancelled
    """
    jobs = _jobs(request)
    todo = [job for job in jobs if request.overwrite or not job[1].exists()]
    request.target.mkdir(parents=True, exist_ok=True)
    failed = []
    begin = time.monotonic()
    for number, (source, target) in enumerate(todo):
        relative = source.relative_to(request.source)

        def within(message: Any, number: int = number, relative: Path = relative) -> None:
            report(_in_folder(message, number, len(todo), relative, time.monotonic() - begin))

        within(None)
        try:
            done = FileDone(relative, "", _one(request, source, target, within, cancelled))
        except UpscaleCancelled:
            raise
        except _EXPECTED as problem:
            done = FileDone(relative, _reason(problem, source))
            failed.append(done)
        report(done)
    return FolderOutcome(len(todo) - len(failed), len(jobs) - len(todo), tuple(failed))


def _jobs(request: FolderRequest) -> list[tuple[Path, Path]]:
    """Every image with the file of its result, no two alike."""
    from esrgan_ext.inference.folder import images_below

    if not request.source.is_dir():
        raise OptionError(f"{request.source}: there is no such folder")
    if request.target.exists() and request.target.samefile(request.source):
        raise OptionError("the results need a folder of their own: they could replace the images")
    found = images_below(request.source, recursive=request.recursive, excluded=request.target)
    jobs: list[tuple[Path, Path]] = []
    taken: set[str] = set()
    for source in found:
        place = request.target / source.relative_to(request.source)
        stem = place.stem
        if stem.lower().endswith(".ome"):
            stem = stem[:-4]
        target = place.with_name(stem + SUFFIX)
        if str(target).casefold() in taken:  # a.png beside a.tif: the later keeps its whole name
            target = place.with_name(place.name + SUFFIX)
        taken.add(str(target).casefold())
        jobs.append((source, target))
    if not jobs:
        raise OptionError(f"{request.source}: there are no images in this folder")
    return jobs


def _in_folder(message: Any, number: int, total: int, path: Path, elapsed: float) -> Progress:
    """Progress of one file as that of the folder."""
    text = f"File {number + 1} of {total}, {path}"
    done = number * _STEPS
    if not isinstance(message, Progress):  # a phase without a measure
        return Progress(done, total * _STEPS, 0, 1, text=text)
    if not message.tiles:  # a download, told in its own words
        return replace(message, text=f"{text}: {message.text}")
    done += _STEPS * message.done // max(message.total, 1)
    left = elapsed * (total * _STEPS - done) / done if number else None
    return Progress(done, total * _STEPS, 0, 1, left, text=text)


def _one(
    request: FolderRequest, source: Path, target: Path, report: Report, cancelled: Cancelled
) -> tuple[str, ...]:
    """Do a file; returns what there is to say about it."""
    from esrgan_ext.inference.files import read_image

    stop_if(cancelled)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = read_image(source)
    notes = [str(warning.message).removeprefix(f"{source}: ") for warning in caught]
    images, outcomes = [], []
    try:
        for image in (file, *file.further):
            stop_if(cancelled)
            notes += _guesses(image)
            made, outcome = _upscaled(request, image, report, cancelled)
            images.append(made)
            outcomes.append(outcome)
            notes += outcome.notes
        write_ome_tiff(target, images, cancelled)
    finally:
        for outcome in outcomes:
            outcome.result.discard()
    return tuple(dict.fromkeys(notes))


def _upscaled(
    request: FolderRequest, image: ImageFile, report: Report, cancelled: Cancelled
) -> tuple[OmeImage, LayerOutcome]:
    """The result as it is written, and what there is to know of it."""
    labels, scale, units = _axes_of(image)
    colours = image.channel_axis is not False
    pixels = image.pixels
    axes = guess_axes(pixels.shape[: len(labels)], colours, labels)
    values = request.value_range or RangeChoice(default_kind(pixels.dtype, lazy=False))
    options = {**request.options, "fill_in_seconds": float("inf")}  # nobody watches
    if request.pixel_size is not None:
        options["outscale"] = scale_for(
            request.pixel_size, (scale[axes.y], scale[axes.x]), (units[axes.y], units[axes.x])
        )
    outcome = run_upscale(
        UpscaleRequest(
            data=pixels,
            axes=axes,
            region=whole(axes, pixels.shape),
            value_range=values,
            shown=(0,) * len(axes.outer),
            **options,
        ),
        report,
        cancelled,
    )
    result = outcome.result
    levels = result.levels
    data = levels[0] if isinstance(levels, list) else levels
    size = list(scale)
    for axis in (axes.y, axes.x):
        size[axis] *= pixels.shape[axis] / result.shape[axis]
    about = {"source": image.path.name, **outcome.provenance, "store": None}
    if description := _details(image).get("Description"):  # its place in the file is taken
        about["description"] = str(description)
    made = OmeImage(
        data=data,
        axes=ome_axes(labels, axes.roles) + "S" * colours,
        scale=tuple(size),
        units=tuple(units),
        provenance=about,
        **_said(image, 1 if colours else axes.channels(pixels.shape)),
    )
    return made, outcome


def _guesses(image: ImageFile) -> list[str]:
    """Notes on axes that a file does not name and were guessed."""
    labels, _, _ = _axes_of(image)
    shape = image.pixels.shape[: len(labels)]
    axis = doubtful_axis(shape, image.channel_axis is not False, labels)
    if axis is None:
        return []
    return [f"its axis of {shape[axis]} pages was taken for channels: the file does not say"]


def _axes_of(image: ImageFile) -> tuple[list[str], list[float], list[str]]:
    """Labels, pixel size and unit of the axes, colours left out."""
    from esrgan_ext.inference.large.images.tiff import pixel_size

    ndim = image.pixels.ndim - (image.channel_axis is not False)
    layout = image.tiff
    if layout is None:
        return ["y", "x"], [1.0, 1.0], ["pixel", "pixel"]
    letters = layout.axes[:ndim].lower().replace("s", "c")
    labels = [letter if letter in "tczyx" else "" for letter in letters]
    labels[-2:] = ["y", "x"]
    size, units = pixel_size(layout, [label for label in labels if label])
    found: Iterator[tuple[float, str | None]] = iter(zip(size, units, strict=True))
    both = [next(found) if label else (1.0, None) for label in labels]
    return labels, [s for s, _ in both], [unit or "pixel" for _, unit in both]


def _details(image: ImageFile) -> dict[str, Any]:
    """Metadata of an OME-TIFF; empty for other files."""
    return image.tiff.details if image.tiff is not None and image.tiff.kind == "ome" else {}


def _said(image: ImageFile, channels: int) -> dict[str, Any]:
    """The fields of an `OmeImage` that its file has something about, or its name."""
    details = _details(image)
    channel = details.get("Channel", {})
    if any(len(values) != channels for values in channel.values()):
        channel = {}
    kept = {key: details[key] for key in ("AcquisitionDate",) if key in details}
    return {
        "name": str(details.get("Name") or image.path.name.split(".")[0]),
        "channel_names": tuple(str(name) for name in channel.get("Name", [])),
        "channel_colours": tuple(_colour(number) for number in channel.get("Color", [])),
        "details": {
            **kept,
            "Channel": {k: v for k, v in channel.items() if k not in ("Name", "Color")},
        },
    }


def _colour(number: Any) -> tuple[float, float, float]:
    """Red, green and blue of a colour as OME writes it."""
    bits = int(number) & 0xFFFFFFFF
    return (bits >> 24) / 255, (bits >> 16 & 255) / 255, (bits >> 8 & 255) / 255


def _reason(error: BaseException, source: Path) -> str:
    """Why a file failed, without its name."""
    if isinstance(error, MemoryError) and not str(error):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).removeprefix(f"{source}: ") or type(error).__name__
