"""What a model that is still to be downloaded will cost."""

from __future__ import annotations

import pytest

from esrgan_ext.models import CompactConfig, RRDBNet, RRDBNetConfig, SRNetwork, SRVGGNetCompact
from esrgan_ext.weights.catalogue import CATALOGUE
from napari_esrgan._work.models import stand_in


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("realesr-general-x4v3", SRVGGNetCompact(CompactConfig(num_conv=32))),
        ("realesr-animevideov3-x4", SRVGGNetCompact()),
        ("esrgan-x4", RRDBNet()),
        ("realesrgan-x2plus", RRDBNet(RRDBNetConfig(scale=2, unshuffle=2))),
    ],
    ids=["compact 32", "compact 16", "RRDBNet", "RRDBNet, unshuffled"],
)
def test_a_stand_in_costs_what_the_model_costs(name: str, expected: SRNetwork) -> None:
    entry = CATALOGUE[name]
    assert stand_in(entry.info(entry.sources[0])).macs(64, 48) == expected.macs(64, 48)
