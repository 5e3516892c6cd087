"""Kinds of files that people have and that are not read: named, with what to do."""

from __future__ import annotations

_RAW = (
    "it is a camera's raw file ({}): develop it with the camera's program, darktable or "
    "RawTherapee, and save 16-bit TIFF"
)
_PSD = "it is a Photoshop document: save it as TIFF or PNG"

#: By suffix: TIFF's signature is what most raw files begin with, and their first page a thumbnail.
SUFFIXES = {
    **{
        suffix: _RAW.format(suffix[1:].upper())
        for suffix in (
            ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf",
            ".rw2", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".mrw", ".kdc", ".dcr", ".raw",
        )
    },
    ".psd": _PSD,
    ".psb": _PSD,
}  # fmt: skip

_SIGNATURES = (
    (0, b"8BPS", _PSD),
    (0, b"FUJIFILMCCD-RAW", _RAW.format("RAF")),
    (4, b"ftypcrx", _RAW.format("CR3")),
    (0, b"IIRO", _RAW.format("ORF")),
    (0, b"MMOR", _RAW.format("ORF")),
    (0, b"IIU\0", _RAW.format("RW2")),
    (0, b"FOVb", _RAW.format("X3F")),
    (0, b"\0MRM", _RAW.format("MRW")),
    (8, b"CR\x02", _RAW.format("CR2")),
)


def reason(head: bytes, suffix: str) -> str | None:
    """Why a file with these first bytes or this suffix is not read, or None."""
    for at, signature, text in _SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return text
    return SUFFIXES.get(suffix.lower())
