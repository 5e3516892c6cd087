"""A result as a Python script that computes the same array without napari.

A provenance comes from a layer's metadata, which a file may have brought: every value is checked
for its type, and text gets into the script as a literal only.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any, get_args

from esrgan_ext.weights.catalogue import FOLLOWS_NOISE
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.ranges import RangeKind
from napari_esrgan._work.request import Mix, UpscaleRequest

_TEMPLATE = '''"""Upscales an image as napari's ESRGAN plugin does."""

import sys

import numpy as np

import esrgan_ext as esr
{imports}
LAYER = {source}  # what it was made for


def by_plane(up: esr.Upscaler, stack: np.ndarray, data_range: object) -> np.ndarray:
    """Upscale plane by plane, as the plugin does: together they may round differently."""
    outer = stack.shape[:{space}]
    results = [up(stack[index], data_range=data_range) for index in np.ndindex(outer)]
    return np.stack(results).reshape(*outer, *results[0].shape)


def upscale(image: np.ndarray) -> np.ndarray:
    """Return the result for the layer's whole array, shape {axes}."""
{make}
{body}

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: script.py INPUT OUTPUT.npy   (INPUT: .npy, .tif or another image)")
    source = sys.argv[1]
    if source.endswith(".npy"):
        image = np.load(source)
    elif source.lower().endswith((".tif", ".tiff")):
        import tifffile

        image = tifffile.imread(source)
    else:
        from esrgan_ext.inference.files import read_image

        image = read_image(source).pixels
    np.save(sys.argv[2], upscale(image))
'''

_UPSCALER = """esr.Upscaler(
    model={model},
    outscale={outscale!r},
    tile={tile!r},
    device={device!r},
    precision={precision!r},
    channel_axis={channel_axis!r},
    denoise=None,
    consistent={consistent!r},
)"""

_IMPORTS = {
    "data": "from esrgan_ext.inference.ranges import robust_range\n",
    "minmax": "from esrgan_ext.inference.arrays import finite_extent\n",
}


@dataclass(frozen=True)
class _Facts:
    """The part of a provenance that a script needs; the fields are those of its "parameters"."""

    axes: Axes
    region: tuple[int, int, int, int]
    plane: tuple[int, ...] | None
    range_kind: RangeKind
    range_values: tuple[float, float] | None
    outscale: float | None
    tile: int | str
    device: str
    precision: str
    models: tuple[str, ...]
    colours: tuple[float, ...]  # strengths of denoising
    layer: str
    consistent: bool

    @classmethod
    def of(cls, provenance: dict[str, Any]) -> _Facts:
        """Take them, each of its own type.

        Raises
        ------
        ValueError
            Where the provenance is none of this plugin's.
        """
        try:
            p = provenance["parameters"]
            roles: Any = tuple(str(role) for role in p["axes"])
            axes = Axes(roles, bool(p["rgb"]))
            y0, y1, x0, x1 = (int(edge) for edge in p["region"])
            plane = p["plane"]
            if plane is not None:
                plane = tuple(int(index) for index in plane)
                if len(plane) != len(axes.outer):
                    raise ValueError("one index an axis")
            kind = p["range"]
            if kind not in get_args(RangeKind):
                raise ValueError("no such range")
            values = p["range_values"]
            if values is not None:
                low, high = values
                values = (_finite(low), _finite(high))
            elif kind in ("limits", "own"):
                raise ValueError("no values")
            tile = p["tile"]
            return cls(
                axes=axes,
                region=(y0, y1, x0, x1),
                plane=plane,
                range_kind=kind,
                range_values=values,
                outscale=None if p["outscale"] is None else _finite(p["outscale"]),
                tile="auto" if tile == "auto" else int(tile),
                device=str(p["device"]),
                precision=str(p["precision"]),
                models=_models(provenance["model"], axes, plane),
                colours=tuple(map(_finite, p.get("strengths") or ())) if axes.rgb else (),
                layer=str(provenance.get("source", "a layer")),
                consistent=bool(p.get("consistent", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "the layer's metadata does not say how this plugin made it: run it again"
            ) from error


def _finite(value: Any) -> float:
    """The value as a number that can be written as a literal: "nan" and "inf" would be names."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _models(model: dict[str, Any], axes: Axes, plane: tuple[int, ...] | None) -> tuple[str, ...]:
    """The model as an expression, or that of each channel that is upscaled."""
    channels = model.get("channels")
    if channels is None:
        return (_model(model),)
    if axes.channel is None or not channels:
        raise ValueError("no channels")
    if plane is not None:
        channels = [channels[axes.channel_of(plane)]]
    return tuple(_model(channel) for channel in channels)


def _model(model: dict[str, Any]) -> str:
    """The model as an expression."""
    if model["mix"] is not None:
        a, b, alpha = model["mix"]
        return f"esr.interpolate({str(a)!r}, {str(b)!r}, alpha={_finite(alpha)!r})"
    return repr(str(model["key"]))


def script(provenance: dict[str, Any]) -> str:
    """The script for what `layer.metadata["esrgan"]` says.

    Raises
    ------
    ValueError
        Where that is nothing that this plugin wrote.
    """
    facts = _Facts.of(provenance)
    rgb, roles = facts.axes.rgb, facts.axes.roles
    return _TEMPLATE.format(
        source=repr(facts.layer),
        imports=_IMPORTS.get(facts.range_kind, ""),
        space=-3 if rgb else -2,
        axes="(" + ", ".join([*roles, *(["colour"] if rgb else [])]) + ")",
        make=textwrap.indent("\n".join(_upscalers(facts)), "    "),
        body="\n".join(f"    {line}" for line in _body(facts)) + "\n",
    )


def _upscalers(facts: _Facts) -> list[str]:
    """The lines that make the upscaler `up`, or `ups`, one for each channel."""
    several = len(facts.models) > 1
    made = _UPSCALER.format(
        model="model" if several else facts.models[0],
        outscale=facts.outscale,
        tile=facts.tile,
        device=facts.device,
        precision=facts.precision,
        channel_axis=-1 if facts.axes.rgb else False,
        consistent=facts.consistent,
    )
    if facts.colours:
        return [f"up = {made}.with_strengths({facts.colours!r})  # of each colour"]
    if not several:
        return [f"up = {made}"]
    models = [f"    {model}," for model in facts.models]
    return ["models = [", *models, "]  # of each channel", f"ups = [{made} for model in models]"]


def _body(facts: _Facts) -> list[str]:
    """The lines that compute the result: space last, the channels each with its own range."""
    axes, rgb, plane = facts.axes, facts.axes.rgb, facts.plane
    lines: list[str] = []
    end = "-3, -2" if rgb else "-2, -1"
    straight = (axes.y, axes.x) == (len(axes.roles) - 2, len(axes.roles) - 1)
    if not straight:
        lines.append(f"image = np.moveaxis(image, ({axes.y}, {axes.x}), ({end}))")
    y0, y1, x0, x1 = facts.region
    crop = f"[..., {y0}:{y1}, {x0}:{x1}{', :' if rgb else ''}]"
    if axes.channel is not None:
        axis = axes.outer.index(axes.channel)
        lines.append("parts = []")
        lines.append(f"for channel in range(image.shape[{axis}]):")
        lines.append(f"    part = image.take([channel], axis={axis})")
        if len(facts.models) > 1:
            lines.append("    up = ups[channel]")
        lines += [f"    {line}" for line in _range_lines(facts, "part")]
        if plane is not None:
            index = ", ".join("0:1" if k == axis else f"{v}:{v + 1}" for k, v in enumerate(plane))
            lines.append(f"    if channel == {plane[axis]}:")
            lines.append(f"        parts.append(by_plane(up, part[{index}]{crop}, values))")
        else:
            lines.append(f"    parts.append(by_plane(up, part{crop}, values))")
        lines.append(f"result = np.concatenate(parts, axis={axis})")
    else:
        lines += _range_lines(facts, "image")
        index = ", ".join(f"{k}:{k + 1}" for k in plane or ())
        lines.append(f"result = by_plane(up, image{f'[{index}]' if index else ''}{crop}, values)")
    if not straight:
        lines.append(f"result = np.moveaxis(result, ({end}), ({axes.y}, {axes.x}))")
    lines.append("return result")
    return lines


def _range_lines(facts: _Facts, array: str) -> list[str]:
    """The lines that set the range of values that become black and white."""
    if facts.range_kind == "type":
        return ['values = "type"']
    if facts.range_kind in ("data", "minmax"):
        planes = f"{array}.reshape(-1, *{array}.shape[{-3 if facts.axes.rgb else -2}:])"
        found = (
            f"finite_extent({array})" if facts.range_kind == "minmax" else f"robust_range({planes})"
        )
        return [
            f"low, high = {found}  # of the whole layer, not of the region",
            'values = (low, high) if low < high else "auto"',
        ]
    assert facts.range_values is not None
    low, high = facts.range_values
    return [f"values = ({low!r}, {high!r})"]


def _as_in_provenance(model: str | Mix) -> dict[str, Any]:
    return {
        "key": model if isinstance(model, str) else None,
        "mix": None if isinstance(model, str) else [model.a, model.b, model.alpha],
    }


def request_script(request: UpscaleRequest, source: str) -> str:
    """The script for a run that has not been made yet.

    Raises
    ------
    ValueError
        Where the strength of denoising has not been found yet.
    """
    if request.denoise_auto and not request.consistent and request.model in FOLLOWS_NOISE:
        raise ValueError("the noise of the layer is still being looked at: try again in a moment")
    region, model = request.region, _as_in_provenance(request.model)
    if len(request.models) > 1:
        model["channels"] = [_as_in_provenance(each) for each in request.models]
    return script(
        {
            "source": source,
            "model": model,
            "parameters": {
                "outscale": request.outscale,
                "axes": list(request.axes.roles),
                "rgb": request.axes.rgb,
                "region": [region.y0, region.y1, region.x0, region.x1],
                "plane": list(request.shown) if request.only_shown else None,
                "range": request.value_range.kind,
                "range_values": list(request.value_range.values or ()) or None,
                "device": request.device,
                "precision": request.precision,
                "tile": request.tile,
                "consistent": request.consistent,
                "strengths": list(request.strengths) or None,
            },
        }
    )
