"""Who made which model and what to cite for it; stated in the packages that `writing` writes."""

from __future__ import annotations

from esrgan_ext.weights.info import ModelInfo

_ESRGAN_AUTHORS = (
    "Xintao Wang", "Ke Yu", "Shixiang Wu", "Jinjin Gu", "Yihao Liu", "Chao Dong",
    "Chen Change Loy", "Yu Qiao", "Xiaoou Tang",
)  # fmt: skip
_REAL_ESRGAN_AUTHORS = ("Xintao Wang", "Liangbin Xie", "Chao Dong", "Ying Shan")

_ESRGAN = ("ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", "1809.00219")
_REAL_ESRGAN = (
    "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
    "2107.10833",
)
_BSRGAN = (
    "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution",
    "2103.14006",
)
_SRGAN = (
    "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
    "1609.04802",
)

# By the beginning of a catalogue name: those who trained it, and the papers beside ESRGAN's.
_KNOWN = (
    ("lite-", ("The esrgan_ext authors",), ()),
    ("realesr", _REAL_ESRGAN_AUTHORS, (_REAL_ESRGAN,)),
    ("realsr-", ("Xiaozhong Ji", "Yun Cao", "Ying Tai", "Chengjie Wang", "Jilin Li"), ()),
    ("bsrgan-", ("Kai Zhang", "Jingyun Liang", "Luc Van Gool", "Radu Timofte"), (_BSRGAN,)),
    ("esrgan-", _ESRGAN_AUTHORS, ()),
    ("rrdb-psnr-", _ESRGAN_AUTHORS, ()),
)

UNKNOWN = "unknown"


def authors(info: ModelInfo) -> list[str]:
    """Names of those who trained a model; `UNKNOWN` for files that are none of the catalogue."""
    if info.role is not None:
        for beginning, names, _ in _KNOWN:
            if info.name.startswith(beginning):
                return list(names)
    return [UNKNOWN]


def citations(info: ModelInfo) -> list[tuple[str, str]]:
    """Titles and arXiv numbers of the papers behind a model: its own and its network's."""
    papers = [_SRGAN if info.architecture == "SRResNet" else _ESRGAN]
    if info.architecture == "SRVGGNetCompact":
        papers = [_REAL_ESRGAN]
    if info.role is not None:
        papers += [p for start, _, own in _KNOWN if info.name.startswith(start) for p in own]
    return list(dict.fromkeys(papers))
