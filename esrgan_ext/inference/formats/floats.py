"""Images of light as floats: Radiance HDR through OpenCV, and OpenEXR through its own library,
which is an extra (`formats`). References: G. Ward, "Real Pixels" (1991); OpenEXR file layout."""

from __future__ import annotations

import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError

HDR_SIGNATURES = (b"#?RADIANCE", b"#?RGBE")
# Lines that change what the values mean (Radiance's file formats, "Header").
_HDR_VARIABLES = re.compile(rb"^(EXPOSURE|COLORCORR|PRIMARIES|PIXASPECT|GAMMA|VIEW)=", re.M)
# What a result states of itself, or what every file has.
_EXR_OWN = frozenset(
    ("channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio",
     "screenWindowCenter", "screenWindowWidth", "type", "version", "chunkCount", "name", "tiles",
     "maxSamplesPerPixel", "view")
)  # fmt: skip
EXR_SIGNATURE = b"\x76\x2f\x31\x01"


def hdr_size(head: bytes) -> tuple[int, int]:
    """Width and height out of a Radiance file's resolution line.

    Raises
    ------
    ImageFileError
        There is none, or its rows do not run from the top and left.
    """
    found = re.search(rb"\n\n([-+][XY]) (\d{1,9}) ([-+][XY]) (\d{1,9})\n", head[: 1 << 16])
    if found is None:
        raise ImageFileError("the HDR is truncated or damaged: it states no size")
    if (found[1], found[3]) != (b"-Y", b"+X"):
        raise ImageFileError(
            "an HDR whose rows do not run from top left is not read: turn it first"
        )
    return int(found[4]), int(found[2])


def decode_hdr(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """H, W, 3 of float32, as they are stored; and notes."""
    hdr_size(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.float32 or pixels.ndim != 3:
        raise ImageFileError("the HDR is truncated or damaged")
    head = data[: data.index(b"\n\n")]
    lost = sorted({name.decode() for name in _HDR_VARIABLES.findall(head)})
    notes = (f"the HDR's {', '.join(lost)} not kept: values are as stored",) if lost else ()
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), notes


def encode_hdr(pixels: np.ndarray) -> bytes:
    """A Radiance file of H, W or H, W, 3 of float32; what is below 0 becomes 0."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    positive = np.ascontiguousarray(np.maximum(colour, 0), dtype=np.float32)
    done, buffer = cv2.imencode(".hdr", cv2.cvtColor(positive, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageFileError("OpenCV cannot encode these pixels as HDR")
    return buffer.tobytes()


def exr_size(head: bytes) -> tuple[int, int]:
    """Width and height out of an OpenEXR file's data window.

    Raises
    ------
    ImageFileError
        There is none.
    """
    at = head.find(b"dataWindow\0box2i\0")
    if at < 0 or at + 37 > len(head):
        raise ImageFileError("the OpenEXR file is truncated or damaged: it states no size")
    x0, y0, x1, y1 = struct.unpack_from("<4i", head, at + 21)
    return x1 - x0 + 1, y1 - y0 + 1


def decode_exr(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """H, W (Y) or H, W, C (RGB, RGBA) of float16 or float32 of the first part; notes.

    Raises
    ------
    ImageFileError
        OpenEXR is not installed, the file is damaged, or has neither RGB nor Y.
    """
    library = _openexr()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.exr"
        path.write_bytes(data)
        try:
            with library.File(str(path)) as file:
                found = {
                    name: np.array(channel.pixels) for name, channel in file.channels().items()
                }
                parts = len(file.parts)
                attributes = sorted(set(file.header()) - _EXR_OWN)
        except Exception as error:  # whatever OpenEXR says of damaged bytes
            raise ImageFileError(f"the OpenEXR file is truncated or damaged: {error}") from error
    name = next((name for name in ("RGBA", "RGB", "Y") if name in found), None)
    if name is None or found[name].dtype.kind != "f":
        raise ImageFileError(
            f"an OpenEXR file with the channels {', '.join(sorted(found)) or 'none'} is not read; "
            "R, G, B or Y are needed, as floats"
        )
    left = sorted(set(found) - {name})
    notes = [f"its channels {', '.join(left)} are left out"] if left else []
    if parts > 1:
        notes.append(f"it has {parts} parts: the first one is taken")
    if attributes:
        notes.append(f"OpenEXR's attributes {', '.join(attributes)} not kept")
    return found[name], tuple(notes)


def encode_exr(pixels: np.ndarray) -> bytes:
    """An OpenEXR file (ZIP) of H, W or H, W, C with C = 2, 3, 4 of float16 or float32."""
    library = _openexr()
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    name = "Y" if pixels.ndim == 2 else "RGB" if pixels.shape[2] == 3 else "RGBA"
    header: dict[str, Any] = {
        "compression": library.ZIP_COMPRESSION,
        "type": library.scanlineimage,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.exr"
        with library.File(header, {name: np.ascontiguousarray(pixels)}) as file:
            file.write(str(path))
        return path.read_bytes()


def _openexr() -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        raise ImageFileError(
            "OpenEXR files need OpenEXR: pip install 'esrgan-ext[formats]'"
        ) from error
    return OpenEXR
