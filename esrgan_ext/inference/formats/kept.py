"""Which metadata each format carries: the one table that writing, notes, tests and the
documentation are made from."""

from __future__ import annotations

from esrgan_ext.inference.formats.metadata import Metadata, fitting_profile

#: What a field of `Metadata` is called for people.
NAMES = {
    "exif": "EXIF",
    "icc": "colour profile",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "cicp": "CICP",
    "comments": "comments",
    "texts": "texts",
    "png_colour": "gamma and primaries",
}

#: Fields that a result of each format has again. "comments" are texts under the keyword "Comment".
KEPT: dict[str, tuple[str, ...]] = {
    "png": ("exif", "icc", "xmp", "dpi", "cicp", "comments", "texts", "png_colour"),
    "jpeg": ("exif", "icc", "xmp", "iptc", "dpi", "comments"),
    "tiff": ("exif", "icc", "xmp", "iptc", "dpi"),
    "webp": ("exif", "icc", "xmp", "dpi"),
    "avif": ("exif", "icc", "xmp", "dpi"),
    "bmp": ("dpi",),
    "jp2": ("exif", "icc", "xmp", "dpi"),
    "j2k": (),  # JPEG 2000's bare codestream
    "pnm": (),
    "jxl": ("exif", "xmp"),
    "hdr": (),
    "exr": (),
}

COMMENT = "Comment"


def lost(format: str, metadata: Metadata, *, gray: bool) -> list[str]:
    """Notes that name what a source has and a result of this format cannot keep."""
    comments = [text for keyword, text in metadata.texts if keyword == COMMENT]
    texts = [keyword for keyword, _ in metadata.texts if keyword != COMMENT]
    # sRGB's own gamma and primaries say nothing that is not so without them.
    colour = [kind for kind, _ in metadata.png_colour]
    present = {
        "exif": metadata.exif is not None,
        "icc": metadata.icc is not None,
        "xmp": metadata.xmp is not None,
        "iptc": metadata.iptc is not None,
        "dpi": metadata.dpi is not None,
        "cicp": metadata.cicp is not None,
        "comments": bool(comments),
        "texts": bool(texts),
        "png_colour": bool(colour) and b"sRGB" not in colour,
    }
    names = [NAMES[key] for key, there in present.items() if there and key not in KEPT[format]]
    notes = []
    if names:
        notes.append(f"{format.upper()} cannot keep the source's {', '.join(names)}")
    if metadata.icc is not None and "icc" in KEPT[format] and not (
        fitting_profile(metadata.icc, gray=gray)
    ):  # fmt: skip
        notes.append("the source's colour profile is not for pixels like the result's: left out")
    return notes
