"""Turns any key layout of an ESRGAN checkpoint into the canonical one and reads the network's
shape off its tensors.

Layouts (n = number of upsamplings, B = number of blocks):

==============  ==================================  ==================  ====================
part            old (ESRGAN 2018, ESRGAN+)          new (ESRGAN, BSRGAN)  canonical (Real-ESRGAN)
==============  ==================================  ==================  ====================
first           model.0                             conv_first          conv_first
dense block     model.1.sub.N.RDB1.conv1.0          RRDB_trunk.N.RDB1.conv1  body.N.rdb1.conv1
ESRGAN+ 1x1     model.1.sub.N.RDB1.conv1x1          same with conv1x1   same with conv1x1
end of trunk    model.1.sub.B                       trunk_conv          conv_body
upsampling k    model.{3k}                          upconvK             conv_upK
last two        model.{3n+2}, model.{3n+4}          HRconv, conv_last   conv_hr, conv_last
==============  ==================================  ==================  ====================

Real-ESRGAN's compact networks have one layout: `body.0`, `body.1`, ...

The old indices are those of an nn.Sequential, in which upsampling and LeakyReLU count too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from esrgan_ext.errors import ModelError
from esrgan_ext.models import (
    CompactConfig,
    RRDBNet,
    RRDBNetConfig,
    SRNetwork,
    SRResNet,
    SRResNetConfig,
    SRVGGNetCompact,
)

Config = RRDBNetConfig | SRResNetConfig | CompactConfig

# Channels that an image can have. Where conv_first takes another number, or four times what
# comes out, the network unshuffles its input first.
IMAGE_CHANNELS = (1, 2, 3, 4)

# A tensor that every network of a layout has. What stands before it in a checkpoint's keys is a
# prefix: of torch's wrappers, or of the trainer's class that held the generator.
_LANDMARKS = (
    "body.0.rdb1.conv1.weight",
    "RRDB_trunk.0.RDB1.conv1.weight",
    "model.1.sub.0.RDB1.conv1.0.weight",
    "act_first.weight",
    "body.0.weight",
)
_NEW_TO_CANONICAL = {
    "trunk_conv": "conv_body",
    "HRconv": "conv_hr",
}
_NEW_BLOCK = re.compile(r"RRDB_trunk\.(\d+)\.RDB([123])\.(conv[1-5]|conv1x1)\.(weight|bias)")
_NEW_UP = re.compile(r"upconv(\d+)\.(weight|bias)")
_OLD_BLOCK = re.compile(
    r"model\.1\.sub\.(\d+)\.RDB([123])\.(?:(conv[1-5])\.0|(conv1x1))\.(weight|bias)"
)
_OLD_TRUNK_END = re.compile(r"model\.1\.sub\.(\d+)\.(weight|bias)")
_OLD_TOP = re.compile(r"model\.(\d+)\.(weight|bias)")
_BODY = re.compile(r"body\.(\d+)\.")
_COMPACT = re.compile(r"body\.(\d+)\.")
_UP = re.compile(r"(?:conv_up|upsample\.)(\d+)\.")


@dataclass(frozen=True)
class CanonicalState:
    """A state dict with canonical names and the network that it belongs to."""

    config: Config
    tensors: dict[str, Tensor]

    def build(self) -> SRNetwork:
        """The network made of these very tensors, in eval mode."""
        network = build_network(self.config)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval()


def canonical(
    state: Mapping[str, Tensor],
    source: str,
    hint: Mapping[str, Any] | None = None,
    scale: int | None = None,
) -> CanonicalState:
    """Recognise a checkpoint.

    Parameters
    ----------
    state : mapping of str to Tensor
        Any of the layouts above, behind any prefix (``module.``, ``generator.``); any floating
        dtype.
    source : str
        File name for messages.
    hint : mapping, optional
        Fields of the configuration, as `export.save_model` writes them into a file. They decide
        only where the tensors allow several answers (see Notes).
    scale : int, optional
        The scale that is stated elsewhere; tensors of another one are an error.

    Returns
    -------
    CanonicalState
        Tensors in network order.

    Raises
    ------
    ModelError
        The layout is unknown, tensors are missing, left over or of the wrong shape, or the scale
        is not the one stated.

    Notes
    -----
    Whether the input is unshuffled is not written in the tensors. It is taken to be where
    conv_first has 4 or 16 times as many inputs as conv_last has outputs, or more inputs than an
    image has channels.
    """
    named = _strip_prefixes(state)
    if "act_first.weight" in named:
        config: Config = _srresnet_config(named, source)
    elif "body.0.weight" in named:
        config = _compact_config(named, source, hint or {})
    else:
        named = _rename(named, source)
        config = _rrdbnet_config(named, source, hint or {})
    expected = build_network(config).state_dict()
    _compare(named, expected, source)
    if scale is not None and scale != config.scale:
        raise ModelError(
            f"{source}: is said to enlarge by {scale}, but its network enlarges by {config.scale}"
        )
    return CanonicalState(config, {name: named[name] for name in expected})


def build_network(config: Config) -> SRNetwork:
    """The network of a configuration on the meta device: it has shapes but no numbers yet."""
    with torch.device("meta"):
        if isinstance(config, CompactConfig):
            return SRVGGNetCompact(config)
        return SRResNet(config) if isinstance(config, SRResNetConfig) else RRDBNet(config)


def _strip_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generator alone, without what its names begin with; an average of it comes first."""
    for landmark in _LANDMARKS:
        prefixes = [
            key.removesuffix(landmark)
            for key in state
            if key == landmark or key.endswith(f".{landmark}")
        ]
        if prefixes:
            prefix = min(prefixes, key=lambda name: ("ema" not in name.lower(), len(name)))
            return {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
    return dict(state)


def _unknown(state: Mapping[str, Tensor], source: str, reason: str = "") -> ModelError:
    seen = ", ".join(list(state)[:4]) or "none"
    return ModelError(
        f"{source}: not an ESRGAN network{reason and f' ({reason})'}. "
        f"{len(state)} tensors, the first are: {seen}"
    )


def _rename(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    if "body.0.rdb1.conv1.weight" in state:
        return state
    if "RRDB_trunk.0.RDB1.conv1.weight" in state:
        return {_from_new(key): value for key, value in state.items()}
    if "model.1.sub.0.RDB1.conv1.0.weight" in state:
        names = _from_old(state, source)
        return {names.get(key, key): value for key, value in state.items()}
    if "model.1.sub.0.res.0.weight" in state or "recon_trunk.0.conv1.weight" in state:
        raise _unknown(state, source, "this SRResNet has another structure than SRGAN's")
    raise _unknown(state, source)


def _from_new(key: str) -> str:
    if match := _NEW_BLOCK.fullmatch(key):
        block, dense, conv, kind = match.groups()
        return f"body.{block}.rdb{dense}.{conv}.{kind}"
    if match := _NEW_UP.fullmatch(key):
        return f"conv_up{match[1]}.{match[2]}"
    module, _, kind = key.rpartition(".")
    return f"{_NEW_TO_CANONICAL.get(module, module)}.{kind}"


def _from_old(state: Mapping[str, Tensor], source: str) -> dict[str, str]:
    """Map the keys of the old layout; keys that do not belong to it are left out."""
    top = {int(match[1]) for key in state if (match := _OLD_TOP.fullmatch(key))}
    last = max(top, default=0)
    ups, rest = divmod(last - 4, 3)
    if rest or ups < 0:
        raise _unknown(state, source, f"no convolution can stand at model.{last}")
    modules = {0: "conv_first", 3 * ups + 2: "conv_hr", 3 * ups + 4: "conv_last"}
    modules |= {3 * k: f"conv_up{k}" for k in range(1, ups + 1)}
    names = {}
    for key in state:
        if match := _OLD_BLOCK.fullmatch(key):
            block, dense, conv, conv1x1, kind = match.groups()
            names[key] = f"body.{block}.rdb{dense}.{conv or conv1x1}.{kind}"
        elif match := _OLD_TRUNK_END.fullmatch(key):
            names[key] = f"conv_body.{match[2]}"
        elif (match := _OLD_TOP.fullmatch(key)) and int(match[1]) in modules:
            names[key] = f"{modules[int(match[1])]}.{match[2]}"
    return names


def _shape(state: Mapping[str, Tensor], key: str, source: str, dims: int = 4) -> torch.Size:
    if key not in state:
        raise ModelError(f"{source}: the tensor {key} is missing")
    if state[key].ndim != dims:
        raise ModelError(f"{source}: {key} has shape {_text(state[key])}, expected {dims} axes")
    return state[key].shape


def _count(state: Mapping[str, Tensor], pattern: re.Pattern[str], first: int) -> int:
    """Number of consecutive indices from `first` that `pattern` finds among the keys."""
    found = {int(match[1]) for key in state if (match := pattern.match(key))}
    count = 0
    while first + count in found:
        count += 1
    return count


def _rrdbnet_config(
    state: Mapping[str, Tensor], source: str, hint: Mapping[str, Any]
) -> RRDBNetConfig:
    nf, first_inputs = _shape(state, "conv_first.weight", source)[:2]
    out_channels = _shape(state, "conv_last.weight", source)[0]
    gc = _shape(state, "body.0.rdb1.conv1.weight", source)[0]
    zoom = 2 ** _count(state, _UP, 1)
    configs = [
        RRDBNetConfig(
            in_channels=in_channels,
            out_channels=out_channels,
            nf=nf,
            nb=_count(state, _BODY, 0),
            gc=gc,
            scale=zoom // unshuffle,
            unshuffle=unshuffle,
            plus="body.0.rdb1.conv1x1.weight" in state,
        )
        for in_channels, unshuffle in _input_candidates(first_inputs, out_channels)
        if zoom % unshuffle == 0 and zoom // unshuffle in (1, 2, 4, 8)
    ]
    if not configs:
        raise ModelError(
            f"{source}: {first_inputs} input channels, {out_channels} output channels and "
            f"{zoom}x upsampling in the network do not make a scale of 1, 2, 4 or 8"
        )
    for config in configs:
        if all(hint.get(field.name) == getattr(config, field.name) for field in fields(config)):
            return config
    return configs[0]


def _input_candidates(inputs: int, outputs: int) -> Iterator[tuple[int, int]]:
    """(image channels, unshuffle factor) that conv_first's inputs can mean, likeliest first."""
    factors = [u for u in (1, 2, 4) if inputs % u**2 == 0]
    same = [u for u in factors if inputs // u**2 == outputs]
    rest = [u for u in factors if u not in same and inputs // u**2 in IMAGE_CHANNELS]
    unusual = [1] if 1 not in (*same, *rest) else []
    for unshuffle in (*same, *rest, *unusual):
        yield inputs // unshuffle**2, unshuffle


def _srresnet_config(state: Mapping[str, Tensor], source: str) -> SRResNetConfig:
    nf, in_channels = _shape(state, "conv_first.weight", source)[:2]
    stages = _count(state, _UP, 0)
    if stages > 3:
        raise ModelError(f"{source}: a scale of {2**stages} is not supported, only 1, 2, 4 and 8")
    return SRResNetConfig(
        in_channels=in_channels,
        out_channels=_shape(state, "conv_last.weight", source)[0],
        nf=nf,
        nb=_count(state, _BODY, 0),
        scale=2**stages,
        batch_norm="bn_body.weight" in state,
    )


def _compact_config(
    state: Mapping[str, Tensor], source: str, hint: Mapping[str, Any]
) -> CompactConfig:
    """Slopes tell PReLU; of the others, and of a reduced result, the tensors tell nothing."""
    nf, in_channels = _shape(state, "body.0.weight", source)[:2]
    last = max(int(match[1]) for key in state if (match := _COMPACT.match(key)))
    if last < 2 or last % 2:
        raise _unknown(
            state, source, f"its last layer is body.{last}, it must be an even number, 2 or more"
        )
    square, rest = divmod(_shape(state, f"body.{last}.weight", source)[0], in_channels)
    upsampling = math.isqrt(square)
    if rest or upsampling**2 != square or not 1 <= upsampling <= 8:
        raise ModelError(
            f"{source}: its last convolution has {square * in_channels + rest} outputs, which is "
            f"not {in_channels} (the input's channels) times the square of a scale of 1 to 8"
        )
    activation = "prelu" if "body.1.weight" in state else hint.get("activation")
    if activation not in ("prelu", "relu", "leakyrelu"):
        raise ModelError(
            f"{source}: a compact network without PReLU: whether ReLU or LeakyReLU follows its "
            "convolutions is not in the file. Build it with esrgan_ext.models.SRVGGNetCompact and "
            "write it with esrgan_ext.weights.save_model, which states it"
        )
    scale = hint.get("scale")
    reduces = upsampling == 4 and type(scale) is int and scale in (2, 3)
    return CompactConfig(
        in_channels=in_channels,
        nf=nf,
        num_conv=last // 2 - 1,
        upsampling=upsampling,
        activation=activation,  # type: ignore[arg-type]
        scale=scale if reduces else upsampling,  # type: ignore[arg-type]
    )


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    missing = [key for key in expected if key not in found]
    if missing:
        raise ModelError(f"{source}: {_some(missing)} missing; the file is damaged or not ours")
    # Numbers that a trainer counts in (steps, batches) are no part of a network.
    extra = [key for key, tensor in found.items() if key not in expected and tensor.ndim > 0]
    if extra:
        raise ModelError(f"{source}: {_some(extra)} unknown; a variant that is not supported")
    for key, tensor in expected.items():
        if found[key].shape != tensor.shape:
            raise ModelError(
                f"{source}: {key} has shape {_text(found[key])}, expected {_text(tensor)}"
            )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"tensor{'s' if len(keys) > 1 else ''} {', '.join(keys[:3])}{more}"


def _text(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "()"
