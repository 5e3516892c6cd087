"""OME-Zarr 0.4 and 0.5: what a store says about its image, and what a result says about itself.

The specification: ngff.openmicroscopy.org. Through the ome-zarr library; pixels are `sources`'.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from ome_zarr.axes import Axes
from ome_zarr.format import format_from_version
from ome_zarr.io import parse_url
from ome_zarr.writer import write_multiscales_metadata

from esrgan_ext.errors import ImageError, ImageFileError, first_line
from esrgan_ext.inference.large.images.image import Level, Scene, check_names, check_shape
from esrgan_ext.inference.large.images.source import Source

VERSIONS = ("0.4", "0.5")


def read_scene(path: Path) -> Scene:
    """Description of the image in an OME-Zarr store.

    Raises
    ------
    ImageFileError
        It is not there, not OME-Zarr, of another version, or damaged.
    ImageError
        Its axes are none that can be upscaled.
    """
    path = path.resolve()
    attributes, version = _attributes(path)
    multiscale = attributes["multiscales"][0]
    try:
        names = [str(axis["name"]) for axis in multiscale["axes"]]
        check_names(path, names)
        axes = Axes(multiscale["axes"], fmt=format_from_version(version)).axes
        datasets = multiscale["datasets"]
        paths = [str(dataset["path"]) for dataset in datasets]
    except ImageError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ImageFileError(f"{path}: its OME-Zarr metadata are damaged: {error!r}") from error
    if not paths:
        raise ImageFileError(f"{path}: its OME-Zarr metadata list no array")
    levels = []
    for dataset, component in zip(datasets, paths, strict=True):
        array = _array(path, component)
        check_shape(path, names, array.shape)
        source = Source(
            "zarr",
            str(path),
            component,
            tuple(range(array.ndim)),
            array.shape,
            str(array.dtype),
            _modified(path / component),
        )
        scale, translation = _transform(path, dataset, array.ndim)
        levels.append(Level(source, scale, translation))
    omero = attributes.get("omero")
    return Scene(
        path=path,
        axes=tuple(axes),
        levels=tuple(levels),
        version=version,
        name=str(multiscale.get("name") or path.name.removesuffix(".zarr").removesuffix(".ome")),
        transformations=list(multiscale.get("coordinateTransformations") or []),
        omero=omero if isinstance(omero, dict) else {},
    )


def _attributes(path: Path) -> tuple[dict[str, Any], str]:
    """The OME attributes of a group, and their version."""
    if not path.exists():
        raise ImageFileError(f"{path}: there is no such store")
    logging.getLogger("ome_zarr").setLevel(logging.ERROR)  # it comments on older versions
    try:
        location = parse_url(path)
    except Exception as error:  # damaged JSON, an array instead of a group, ...
        location = None
        reason = f" ({first_line(error)})"
    else:
        reason = ""
    if location is None:
        raise ImageFileError(
            f"{path}: not an OME-Zarr image{reason}; arrays without OME's metadata can be upscaled "
            "from a script, with esrgan_ext.upscale_lazy"
        )
    attributes = location.root_attrs
    if "multiscales" not in attributes:
        inside = "plate" if "plate" in attributes else "well" if "well" in attributes else ""
        if inside or "bioformats2raw.layout" in attributes or (path / "0").is_dir():
            raise ImageFileError(
                f"{path}: holds several images, not one: give one of the folders in it, as "
                f"{path.name}/0"
            )
        raise ImageFileError(
            f"{path}: a zarr group without OME's metadata (multiscales), so not an OME-Zarr image"
        )
    multiscales = attributes["multiscales"]
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise ImageFileError(f"{path}: its OME-Zarr metadata are damaged: multiscales is no list")
    version = str(attributes.get("version") or multiscales[0].get("version"))
    if version not in VERSIONS:
        raise ImageFileError(
            f"{path}: OME-Zarr {version} is not read here, only {' and '.join(VERSIONS)}; "
            "convert it first"
        )
    return attributes, version


def _array(path: Path, component: str) -> zarr.Array:
    try:
        return zarr.open_array(str(path), path=component, mode="r")
    except Exception as error:  # zarr raises whatever missing or damaged metadata make it
        raise ImageFileError(f"{path}: its level {component!r} is missing or damaged") from error


def _transform(
    path: Path, dataset: dict[str, Any], ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    scale, translation = np.ones(ndim), np.zeros(ndim)
    try:
        for step in dataset.get("coordinateTransformations", []):
            kind = step.get("type")
            if kind == "scale":
                factors = np.asarray(step["scale"], float)
                scale, translation = scale * factors, translation * factors
            elif kind == "translation":
                translation = translation + np.asarray(step["translation"], float)
            elif kind != "identity":
                raise ValueError(f"a transformation of type {kind!r}")
        if scale.shape != (ndim,) or translation.shape != (ndim,):
            raise ValueError("transformations of another number of axes")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageFileError(
            f"{path}: the transformations of {dataset.get('path')!r} cannot be used: {error}"
        ) from error
    return tuple(scale.tolist()), tuple(translation.tolist())


def _modified(folder: Path) -> int:
    for name in ("zarr.json", ".zarray"):
        if (folder / name).exists():
            return (folder / name).stat().st_mtime_ns
    return 0


def write_metadata(
    group: zarr.Group,
    scene: Scene,
    transforms: list[tuple[list[float], list[float]]],
    provenance: dict[str, Any],
) -> None:
    """Write what makes a group of arrays "0", "1", ... an OME-Zarr image.

    Parameters
    ----------
    group : zarr.Group
    scene : Scene
        The source's metadata.
    transforms : list of (scale, translation)
        One for each level.
    provenance : dict
        How the result was made; kept under "esrgan" in the group's attributes.
    """
    fmt = format_from_version(scene.version)
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": translation},
            ],
        }
        for number, (scale, translation) in enumerate(transforms)
    ]
    write_multiscales_metadata(
        group, datasets, fmt=fmt, axes=[dict(axis) for axis in scene.axes], name=scene.name
    )
    attributes: dict[str, Any] = dict(group.attrs)
    ome = attributes["ome"] if scene.version == "0.5" else attributes
    ome["multiscales"][0]["type"] = "mean"  # how the levels were made from one another
    if scene.transformations:
        ome["multiscales"][0]["coordinateTransformations"] = scene.transformations
    if scene.omero:
        ome["omero"] = scene.omero
    attributes["esrgan"] = provenance
    group.attrs.put(attributes)
