"""The networks as plain nn.Modules; weights come from `esrgan_ext.weights`.

Words: a network's *trunk* is all of it before the upsampling; its *reach* is how many input pixels
away a pixel still changes a result; *unshuffle* is the factor by which a network trades pixels for
channels before its first convolution.
"""

from __future__ import annotations

from esrgan_ext.models.compact import CompactConfig, SRVGGNetCompact
from esrgan_ext.models.network import SRNetwork
from esrgan_ext.models.rrdbnet import RRDBNet, RRDBNetConfig
from esrgan_ext.models.srresnet import SRResNet, SRResNetConfig

__all__ = [
    "CompactConfig",
    "RRDBNet",
    "RRDBNetConfig",
    "SRNetwork",
    "SRResNet",
    "SRResNetConfig",
    "SRVGGNetCompact",
]
