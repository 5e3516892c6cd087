"""A result as a Python script that computes the same array without napari."""

from __future__ import annotations

from typing import Any

from napari_esrgan._work.request import UpscaleRequest

_TEMPLATE = '''"""Upscales an image as napari's ESRGAN plugin did for {source!r}."""

import sys

import numpy as np

import esrgan_ext as esr
{imports}

def by_plane(up: esr.Upscaler, stack: np.ndarray) -> np.ndarray:
    """Upscale plane by plane, as the plugin does: together they may round differently."""
    outer = stack.shape[:{space}]
    results = [up(stack[index]) for index in np.ndindex(outer)]
    return np.stack(results).reshape(*outer, *results[0].shape)


def upscale(image: np.ndarray) -> np.ndarray:
    """Return the result for the layer's whole array, shape {axes}."""
    up = esr.Upscaler(
        model={model},
        outscale={outscale!r},
        tile={tile!r},
        device={device!r},
        precision={precision!r},
        channel_axis={channel_axis!r},
    )
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


def script(provenance: dict[str, Any]) -> str:
    """The script for what `layer.metadata["esrgan"]` says."""
    p, model = provenance["parameters"], provenance["model"]
    axes, rgb = p["axes"], p["rgb"]
    y, x = axes.index("y"), axes.index("x")
    channel = axes.index("channel") if "channel" in axes else None
    imports = ""
    lines: list[str] = []
    if p["range"] == "minmax":
        imports = "from esrgan_ext.inference.arrays import finite_extent\n"
    # Space last, as Upscaler wants a stack; the channels first, each with a range of its own.
    end = "-3, -2" if rgb else "-2, -1"
    straight = (y, x) == (len(axes) - 2, len(axes) - 1)
    if not straight:
        lines.append(f"image = np.moveaxis(image, ({y}, {x}), ({end}))")
    moved = [k for k in range(len(axes)) if k not in (y, x)]
    axis = None if channel is None else moved.index(channel)
    if p["plane"] is not None:
        index = ", ".join(f"{k}:{k + 1}" for k in p["plane"])
        plane = f"[{index}]" if index else ""
    else:
        plane = ""
    y0, y1, x0, x1 = p["region"]
    crop = f"[..., {y0}:{y1}, {x0}:{x1}{', :' if rgb else ''}]"
    if axis is not None:
        lines.append("parts = []")
        lines.append(f"for channel in range(image.shape[{axis}]):")
        lines.append(f"    part = image.take([channel], axis={axis})")
        lines += [f"    {line}" for line in _range_lines(p, "part")]
        if p["plane"] is not None:
            wanted = p["plane"][axis]
            index = ", ".join(
                "0:1" if k == axis else f"{v}:{v + 1}" for k, v in enumerate(p["plane"])
            )
            lines.append(f"    if channel == {wanted}:")
            lines.append(f"        parts.append(by_plane(up, part[{index}]{crop}))")
        else:
            lines.append(f"    parts.append(by_plane(up, part{crop}))")
        lines.append(f"result = np.concatenate(parts, axis={axis})")
    else:
        lines += _range_lines(p, "image")
        lines.append(f"result = by_plane(up, image{plane}{crop})")
    if not straight:
        lines.append(f"result = np.moveaxis(result, ({end}), ({y}, {x}))")
    lines.append("return result")
    return _TEMPLATE.format(
        source=provenance.get("source", "a layer"),
        imports=imports,
        space=-3 if rgb else -2,
        axes="(" + ", ".join([*axes, *(["colour"] if rgb else [])]) + ")",
        model=_model(model),
        outscale=p["outscale"],
        tile=p["tile"],
        device=p["device"],
        precision=p["precision"],
        channel_axis=-1 if rgb else False,
        body="\n".join(f"    {line}" for line in lines) + "\n",
    )


def request_script(request: UpscaleRequest, source: str) -> str:
    """The script for a run that has not been made yet."""
    model, region = request.model, request.region
    return script(
        {
            "source": source,
            "model": {
                "key": model if isinstance(model, str) else None,
                "mix": None if isinstance(model, str) else [model.a, model.b, model.alpha],
            },
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
            },
        }
    )


def _range_lines(parameters: dict[str, Any], array: str) -> list[str]:
    """The lines that set the range of values that become black and white."""
    kind = parameters["range"]
    if kind == "type":
        return []
    if kind == "minmax":
        return [
            f"low, high = finite_extent({array})  # of the whole layer, not of the region",
            'up.data_range = (low, high) if low < high else "auto"',
        ]
    low, high = parameters["range_values"]
    return [f"up.data_range = ({low!r}, {high!r})"]


def _model(model: dict[str, Any]) -> str:
    if model["mix"] is not None:
        a, b, alpha = model["mix"]
        return f"esr.interpolate({a!r}, {b!r}, alpha={alpha!r})"
    return repr(model["key"])
