"""`arrays.nearest_places` of masks on a GPU: the same pixel for each, ties included.

OpenCV's distance transform goes over the rows twice, from the top left down and from the bottom
right up; a pixel takes the label of the first of eight neighbours that brings it the least distance
(Borgefors 1986, a mask of 5 x 5). A pass settles what its steps settle when they are repeated on
all pixels at once until nothing changes, and the label is the one at the end of the way back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# A step aside, a diagonal one and a knight's move, in OpenCV's fixed point of 16 bits.
_ASIDE, _DIAGONAL, _KNIGHT = (round(length * 65536) for length in (1.0, 1.4, 2.1969))

_FAR = 1 << 30

# Neighbours of the first pass, in the order in which they are asked; the second pass has them
# turned by half.
_STEPS = (
    (-2, -1, _KNIGHT),
    (-2, 1, _KNIGHT),
    (-1, -2, _KNIGHT),
    (-1, -1, _DIAGONAL),
    (-1, 0, _ASIDE),
    (-1, 1, _DIAGONAL),
    (-1, 2, _KNIGHT),
    (0, -1, _ASIDE),
)
_PASSES = (_STEPS, tuple((-dy, -dx, length) for dy, dx, length in _STEPS))


def nearest_places(mask: Tensor) -> Tensor:
    """For each pixel, the nearest one that a mask does not cover; itself where that is so, and
    where a mask covers all.

    Parameters
    ----------
    mask : Tensor of bool, shape (P, H, W)

    Returns
    -------
    Tensor of int64, shape (P, H * W)
        Places in the flattened planes.
    """
    distance = torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
    distance.masked_fill_(mask, _FAR)
    own = torch.arange(mask[0].numel(), device=mask.device).expand(len(mask), -1)
    places = own
    for steps in _PASSES:
        settled, rounds = _settled(distance, steps)
        changed = (settled < distance).flatten(1)
        back = torch.where(changed, own + _ways_back(settled, steps).flatten(1), own)
        # Each time twice as far. No way has more than three steps for each round.
        for _ in range((3 * rounds).bit_length()):
            back = back.gather(1, back)
        places = places.gather(1, back)
        distance = settled
    return places


def _candidates(distance: Tensor, steps: tuple[tuple[int, int, int], ...]) -> list[Tensor]:
    rows, columns = distance.shape[1:]
    padded = F.pad(distance, (2, 2, 2, 2), value=_FAR)
    return [
        padded[:, 2 + dy : 2 + dy + rows, 2 + dx : 2 + dx + columns] + length
        for dy, dx, length in steps
    ]


def _settled(distance: Tensor, steps: tuple[tuple[int, int, int], ...]) -> tuple[Tensor, int]:
    """Distances when no step shortens one any more, and at most how many steps that took."""
    done, ahead = 0, 1
    while True:
        before = distance
        for _ in range(ahead):
            for candidate in _candidates(distance, steps):
                distance = torch.minimum(distance, candidate)
        done += ahead
        if bool((distance == before).all()):
            return distance, done
        ahead = min(done, 64)


def _ways_back(distance: Tensor, steps: tuple[tuple[int, int, int], ...]) -> Tensor:
    """How far on in the flattened plane the neighbour lies that a distance came from."""
    columns = distance.shape[2]
    back = torch.zeros(distance.shape, dtype=torch.int64, device=distance.device)
    candidates = _candidates(distance, steps)
    for (dy, dx, _), candidate in reversed(list(zip(steps, candidates, strict=True))):
        back.masked_fill_(candidate == distance, dy * columns + dx)  # the first one wins
    return back
