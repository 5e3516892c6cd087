"""Network interpolation (ESRGAN, arXiv 1809.00219, section 3.4): a weighted sum of all tensors
of networks that share one architecture.

``(1 - alpha) * a + alpha * b`` blends a PSNR-oriented network a into a GAN-trained b without the
artefacts that blending their output images has.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from esrgan_ext.errors import ArchitectureMismatch, OptionError
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights.info import ModelInfo
from esrgan_ext.weights.layouts import build_network
from esrgan_ext.weights.loading import info_of, load_model

Model = str | os.PathLike[str] | nn.Module


class InterpolatedModel:
    """Two networks and one between them whose alpha can be moved, in place.

    For sliders and sweeps: `set_alpha` writes into the tensors of `network`, so nothing is
    allocated and whoever holds the network sees the change. It must not run while the network
    does.

    Parameters
    ----------
    a, b : name, path or nn.Module
        The networks at alpha 0 and 1.
    alpha : float
    extrapolate : bool
        Allow alpha outside [0, 1].

    Attributes
    ----------
    network : nn.Module
        The mix; float32, CPU, eval mode, with ``info``.
    alpha : float

    Raises
    ------
    ArchitectureMismatch
        The networks differ in a tensor's name or shape, or in their configuration.
    OptionError
        alpha is NaN, infinite, or outside [0, 1] without `extrapolate`.

    Examples
    --------
    >>> from esrgan_ext.weights import InterpolatedModel
    >>> mix = InterpolatedModel("lite-psnr-x4", "lite-esrgan-x4", alpha=0.0)
    >>> mix.set_alpha(0.8)
    >>> mix.alpha, mix.network.scale
    (0.8, 4)
    """

    def __init__(
        self, a: Model, b: Model, alpha: float = 0.5, *, extrapolate: bool = False
    ) -> None:
        _check_factor("alpha", alpha, extrapolate)  # before anything is loaded
        networks = [load_model(model) for model in (a, b)]
        _require_one_architecture(networks)
        self.extrapolate = extrapolate
        self._a, self._b = (_tensors(network) for network in networks)
        self._infos = [info_of(network) for network in networks]
        self.network = _empty_like(networks[0])
        self.set_alpha(alpha)

    def set_alpha(self, alpha: float) -> None:
        """Make `network` the mix at `alpha`, in place.

        Parameters
        ----------
        alpha : float
            Share of b: in [0, 1], or any finite number with `extrapolate`.

        Raises
        ------
        OptionError
            alpha is NaN, infinite, or outside [0, 1] without `extrapolate`.

        Examples
        --------
        >>> from esrgan_ext.weights import InterpolatedModel
        >>> mix = InterpolatedModel("lite-psnr-x4", "lite-esrgan-x4")
        >>> network = mix.network
        >>> mix.set_alpha(0.25)
        >>> network is mix.network, mix.alpha
        (True, 0.25)
        """
        _check_factor("alpha", alpha, self.extrapolate)
        self.alpha = float(alpha)
        targets = self.network.state_dict()
        for name, target in targets.items():
            _mix_into(target, name, [self._a[name], self._b[name]], [1.0 - self.alpha, self.alpha])
        self.network.info = _mixed_info(self._infos, self.alpha)


def interpolate(a: Model, b: Model, alpha: float, *, extrapolate: bool = False) -> SRNetwork:
    """The network at ``(1 - alpha) * a + alpha * b``.

    Parameters
    ----------
    a, b : name, path or nn.Module
        Models as `load_model` takes them. Neither is changed.
    alpha : float
        In [0, 1]: 0 gives a, 1 gives b, each to the bit.
    extrapolate : bool
        Allow any finite alpha.

    Returns
    -------
    SRNetwork
        float32 on the CPU, eval mode, without gradients; computed in float32. ``info`` names
        the mix, joins the licenses and has the larger overlap of the two.

    Raises
    ------
    ArchitectureMismatch
        Names the first tensor that differs, with both shapes.
    OptionError
        alpha is NaN, infinite, or outside [0, 1] without `extrapolate`.
    ModelError
        See `load_model`.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> network = esr.interpolate("lite-psnr-x4", "lite-esrgan-x4", alpha=0.5)
    >>> upscaler = esr.Upscaler(network, device="cpu")  # a network goes where a name does
    >>> network.info.name
    'lite-psnr-x4+lite-esrgan-x4@0.50'
    """
    return InterpolatedModel(a, b, alpha, extrapolate=extrapolate).network


def interpolate_many(
    models: Sequence[Model], weights: Sequence[float], *, extrapolate: bool = False
) -> SRNetwork:
    """The weighted sum of any number of networks.

    Parameters
    ----------
    models : sequence of names, paths or nn.Modules
    weights : sequence of float
        One for each model; they sum to 1 (to 1e-6).
    extrapolate : bool
        Allow weights outside [0, 1].

    Returns
    -------
    SRNetwork
        As `interpolate`.

    Raises
    ------
    ArchitectureMismatch, ModelError
        As `interpolate`.
    OptionError
        No models, another number of weights, or weights that are not as above.

    Examples
    --------
    >>> from esrgan_ext.weights import interpolate_many
    >>> network = interpolate_many(["lite-psnr-x4", "lite-esrgan-x4"], [0.25, 0.75])
    >>> network.scale
    4
    """
    if not models or len(models) != len(weights):
        raise OptionError(f"{len(models)} models need as many weights, got {len(weights)}")
    for weight in weights:
        _check_factor("a weight", weight, extrapolate)
    if not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-6):
        raise OptionError(f"the weights must sum to 1, got {math.fsum(weights):g}")
    networks = [load_model(model) for model in models]
    _require_one_architecture(networks)
    mixed = _empty_like(networks[0])
    states = [_tensors(network) for network in networks]
    for name, target in mixed.state_dict().items():
        _mix_into(target, name, [state[name] for state in states], weights)
    infos = [info_of(network) for network in networks]
    mixed.info = _joined_info(
        infos,
        "+".join(f"{info.name}*{w:.2f}" for info, w in zip(infos, weights, strict=True)),
    )
    return mixed


def _check_factor(what: str, value: float, extrapolate: bool) -> None:
    try:
        finite = math.isfinite(value)
    except TypeError as error:
        raise OptionError(f"{what} must be a number, got {value!r}") from error
    if not finite:
        raise OptionError(f"{what} must be a finite number, got {value}")
    if not extrapolate and not 0.0 <= value <= 1.0:
        raise OptionError(f"{what} must lie in [0, 1], got {value}; extrapolate=True allows more")


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """The state as float32, CPU, channels-last, without copying what is so already."""
    state = {}
    for name, value in network.state_dict().items():
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.to(torch.float32).contiguous(memory_format=_memory_format(value))
        state[name] = value
    return state


def _memory_format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def _empty_like(network: SRNetwork) -> SRNetwork:
    """A network of the same configuration with memory for its numbers, none of them set."""
    copy = build_network(network.config)
    state = {
        name: torch.empty(
            value.shape, dtype=torch.float32, device="cpu", memory_format=_memory_format(value)
        )
        for name, value in copy.state_dict().items()
    }
    copy.load_state_dict(state, assign=True)
    return copy.eval().requires_grad_(False)


def _require_one_architecture(networks: Sequence[SRNetwork]) -> None:
    first = networks[0]
    for other in networks[1:]:
        names = f"{info_of(first).name} and {info_of(other).name}"
        a, b = first.state_dict(), other.state_dict()
        for tensor in [*a, *(name for name in b if name not in a)]:
            if tensor not in a or tensor not in b or a[tensor].shape != b[tensor].shape:
                raise ArchitectureMismatch(
                    f"{names} cannot be mixed: {tensor} has shape {_shape(a, tensor)} in the "
                    f"first and {_shape(b, tensor)} in the other"
                )
        if type(first) is not type(other) or first.config != other.config:
            raise ArchitectureMismatch(
                f"{names} cannot be mixed: their tensors agree but their configurations do not "
                f"({first.config} and {other.config})"
            )


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return "x".join(str(side) for side in state[name].shape) if name in state else "(absent)"


def _mix_into(
    target: Tensor, name: str, tensors: Sequence[Tensor], factors: Sequence[float]
) -> None:
    """Write the weighted sum into `target`, rounding to float32 after each operation.

    In NumPy, because the 351 to 702 small tensors of a network are each a parallel region for
    torch: where other work keeps the cores busy, waiting for its threads took seconds instead
    of the 50 ms that one thread needs.
    """
    out = target.numpy()
    arrays = [tensor.numpy() for tensor in tensors]
    whole = [array for array, factor in zip(arrays, factors, strict=True) if factor == 1.0]
    if not target.is_floating_point():
        out[...] = arrays[0]  # BatchNorm's counter of batches; it has no part in inference
    elif whole and sum(factor != 0.0 for factor in factors) == 1:
        # Not 0 * other + 1 * this, which would turn -0.0 into 0.0.
        out[...] = whole[0]
    else:
        np.multiply(arrays[0], np.float32(factors[0]), out=out)
        for array, factor in zip(arrays[1:], factors[1:], strict=True):
            out += array * np.float32(factor)
        if name.endswith("running_var"):
            np.maximum(out, 0.0, out=out)  # extrapolation can leave the range of sqrt
    # Torch does not see NumPy write; weights that kernels packed must be seen to be outdated.
    torch.autograd.graph.increment_version(target)


def _mixed_info(infos: Sequence[ModelInfo], alpha: float) -> ModelInfo:
    a, b = infos
    return _joined_info(infos, f"{a.name}+{b.name}@{alpha:.2f}")


def _joined_info(infos: Sequence[ModelInfo], name: str) -> ModelInfo:
    licenses = list(dict.fromkeys(info.license for info in infos))
    return replace(
        infos[0],
        name=name,
        purpose="interpolation of " + " and ".join(info.name for info in infos),
        license=" AND ".join(licenses),
        source=", ".join(dict.fromkeys(info.source for info in infos)),
        sha256=None,
        size_bytes=None,
        overlap=max(info.overlap for info in infos),
        path=None,
        denoise=None,
    )
