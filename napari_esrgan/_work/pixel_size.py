"""Scales from pixel sizes: "0.1 um" asked of an image whose pixels are 0.4 um is x 4."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from esrgan_ext.errors import OptionError

# Output pixels per input pixel that the form offers.
LEAST_SCALE, MOST_SCALE = 0.1, 16.0

# Sides of a pixel that differ by less are one: files round what they are told.
_SQUARE = 1e-3

_NUMBER = re.compile(r"\s*([0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)\s*")


@dataclass(frozen=True)
class PixelSize:
    """The side of a square pixel.

    Attributes
    ----------
    value : float
        Above 0.
    unit : str
        Unit of length, as pint spells it; "pixel" where the image has no other.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        import pint

        return f"{self.value:.4g} {pint.get_application_registry().Unit(self.unit):~P}"


def parse_pixel_size(text: str, unit: str) -> PixelSize:
    """A pixel size as people write it: "0.1 um", "100nm", "0,1 µm", "0.25".

    Parameters
    ----------
    text : str
    unit : str
        Where the text has none.

    Raises
    ------
    OptionError
        It is none.
    """
    import pint

    found = _NUMBER.fullmatch(text)
    value = float(found[1].replace(",", ".")) if found else 0.0
    if found is None or not 0 < value < math.inf:
        raise OptionError(f'{text!r} is no pixel size: write it as "0.1 um" or "100 nm"')
    if not found[2]:
        return PixelSize(value, unit)
    if found[2] in ("px", "pixel", "pixels"):
        return PixelSize(value, "pixel")
    try:
        known = pint.get_application_registry().Unit(found[2])
        length = known.is_compatible_with("meter")
    except Exception:  # of pint's parser, for whatever was typed
        length = False
    if not length:
        raise OptionError(f"{found[2]!r} is no unit of length: um, nm, mm, ... are")
    return PixelSize(value, str(known))


def scale_for(wanted: PixelSize, sides: Sequence[float], units: Sequence[str]) -> float:
    """Output pixels per input pixel that give pixels of this size.

    Parameters
    ----------
    wanted : PixelSize
    sides : (float, float)
        Sides of the image's pixels along y and x, in `units`.
    units : (str, str)
        Units of `sides`, as pint spells them.

    Raises
    ------
    OptionError
        The image has no pixel size in a unit of length, its pixels are not square, or the scale
        would be beyond `LEAST_SCALE` to `MOST_SCALE`.
    """
    import pint

    registry = pint.get_application_registry()
    factors = []
    for side, unit in zip(sides, units, strict=True):
        if registry.Unit(unit).dimensionality != registry.Unit(wanted.unit).dimensionality:
            raise OptionError(
                f"the image has no pixel size in a unit of length ({wanted} is asked for, its unit "
                f"is {unit}): set its scale and units, or give a factor"
            )
        factors.append(registry.Quantity(side, unit).m_as(wanted.unit) / wanted.value)
    if not math.isclose(*factors, rel_tol=_SQUARE):
        y, x = (PixelSize(s, u) for s, u in zip(sides, units, strict=True))
        raise OptionError(
            f"the image's pixels are not square ({y} by {x}), and both sides are scaled alike: "
            "give a factor"
        )
    # Some digits less, so that 0.3 / 0.1 is 3 and takes the quicker way.
    scale = float(f"{math.sqrt(factors[0] * factors[1]):.9g}")
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        possible = f"x {LEAST_SCALE:g} to x {MOST_SCALE:g} is possible"
        raise OptionError(f"{wanted} would be x {scale:.4g}, and {possible}")
    return scale
