"""Makes a model that another package has loaded run in our kernels: same weights, same call.

A state dict does not say what a module computes with it, so a module is taken for one of ours
only if it also gives the same result on a small image. Which layouts there are is
`weights.layouts`' knowledge, the networks themselves are `models`'.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from esrgan_ext.errors import ModelError, OptionError
from esrgan_ext.models import SRNetwork, SRResNet
from esrgan_ext.weights.layouts import canonical

T = TypeVar("T")

# Sides of the images on which a module is compared with ours: a multiple of every unshuffling
# factor, and one of none (modules differ in what they do there).
_EVEN, _ODD = (12, 16), (13, 11)

# Largest difference, as a share of the largest value: rounding alone stays far below.
_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def accelerate(model: T) -> T:
    """Give a loaded model our forward pass.

    Parameters
    ----------
    model : nn.Module, or an object that holds one as its ``model``
        A BasicSR, Real-ESRGAN or ESRGAN `RRDBNet` in any layout, an `SRVGGNetCompact`, an
        `SRResNet`; or spandrel's `ImageModelDescriptor` (ComfyUI's UPSCALE_MODEL), or another
        object with such a module as its attribute ``model`` (`RealESRGANer`). float32, float16 or
        bfloat16, on any device.

    Returns
    -------
    The same kind of object
        A shallow copy: it has the type, the attributes and the very parameters of `model`, which
        stays as it was. Calls without gradients run in our kernels, on the CPU in float32 and on
        CUDA, with results within 1e-4; calls that need gradients, autocast, hooks in submodules,
        tracing, and inputs that the network does not take go the module's own way. Moving it,
        converting it and loading other weights work as before. A model that is none of
        these networks comes back itself, and a warning says why. Networks of this package come
        back as they are.

    Raises
    ------
    OptionError
        `model` is no module and holds none.

    Warns
    -----
    UserWarning
        The model is not one of these networks: it comes back unchanged.

    Examples
    --------
    >>> import torch
    >>> import esrgan_ext as esr
    >>> from esrgan_ext.models import RRDBNet, RRDBNetConfig
    >>> model = RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16)).eval()  # or spandrel's, or BasicSR's
    >>> fast = esr.accelerate(model)
    >>> with torch.inference_mode():
    ...     fast(torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 3, 32, 36])
    """
    if isinstance(model, nn.Module):
        return model if isinstance(model, SRNetwork) else _accelerated(model)
    module = getattr(model, "model", None)
    if not isinstance(module, nn.Module):
        raise OptionError(
            f"a {type(model).__name__} cannot be accelerated: give a torch module, or an object "
            "that holds one as its attribute model (spandrel's descriptor)"
        )
    if isinstance(module, SRNetwork):
        return model
    fast = _accelerated(module)
    if fast is module:
        return model
    other: Any = copy.copy(model)
    # spandrel's `model` is a property of what stands in `_model`.
    name = "_model" if isinstance(getattr(type(model), "model", None), property) else "model"
    setattr(other, name, fast)
    return other


def _accelerated(module: nn.Module) -> Any:
    if isinstance(module.__dict__.get("forward"), _FastForward):
        return module  # done before
    state = module.state_dict(keep_vars=True)
    reason = "it has no parameters"
    for network in _candidates(state):
        if isinstance(network, ModelError):
            reason = str(network)
            continue
        if (problem := _difference(module, network, _EVEN)) is not None:
            reason = problem
            continue
        fast = copy.copy(module)
        odd = _difference(module, network, _ODD) is None
        fast.forward = _FastForward(fast, network, odd)  # type: ignore[method-assign]
        return fast
    warnings.warn(
        f"accelerate: the {type(module).__name__} comes back unchanged: {reason}",
        UserWarning,
        stacklevel=3,
    )
    return module


def _candidates(state: dict[str, Tensor]) -> Iterator[SRNetwork | ModelError]:
    """Networks that these tensors can belong to, made of the tensors themselves.

    Whether ReLU or LeakyReLU stands between a compact network's convolutions is not in them.
    """
    if not state:
        return
    hints: list[dict[str, str]] = [{}, {"activation": "relu"}, {"activation": "leakyrelu"}]
    for hint in hints:
        try:
            network = canonical(state, "its state dict", hint).build()
        except (ModelError, ValueError) as error:
            yield error if isinstance(error, ModelError) else ModelError(str(error))
            continue
        yield network
        if not hint:
            return


def _difference(module: nn.Module, network: SRNetwork, size: tuple[int, int]) -> str | None:
    """Why the module is not this network, None where both give the same small image."""
    like = next(network.parameters())
    if like.is_meta:
        return "its parameters are on the meta device"
    if like.dtype not in _TOLERANCE:
        return f"its parameters are {like.dtype}"
    generator = torch.Generator().manual_seed(0)
    # Beyond [0, 1] on both sides: a module that clamps is another one.
    x = torch.rand((1, network.in_channels, *size), generator=generator) * 2 - 0.5
    x = x.to(like.device, like.dtype)
    training = [part for part in module.modules() if part.training]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module.eval()
            expected = module(x)
            found = network(x)
    except Exception as error:  # another package's code: it may fail of anything
        return f"a call with a tensor of shape {tuple(x.shape)} failed ({error})"
    finally:
        for part in training:
            part.training = True
    if not isinstance(expected, Tensor) or expected.shape != found.shape:
        return "its result has another shape than the network that its parameters belong to"
    limit = _TOLERANCE[like.dtype] * float(expected.abs().max())
    if not float((expected - found).abs().max()) <= limit:
        return "it computes something else than the network that its parameters belong to"
    return None


class _FastForward:
    """Stands in for a module's `forward`.

    Parameters
    ----------
    module : nn.Module
        The one that is called.
    network : SRNetwork
        Ours, which shares its tensors.
    any_size : bool
        Whether both agree on sides that are no multiple of 4, the largest unshuffling factor.
    """

    def __init__(self, module: nn.Module, network: SRNetwork, any_size: bool) -> None:
        self._module, self._network, self._any_size = module, network, any_size
        self._parts = list(module.modules())[1:]
        self._shared = list(_shared(module, network))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and self._takes(args[0]):
            # What was replaced since (buffers by a move, parameters by assigning) is ours too.
            for theirs, name, ours, our_name in self._shared:
                if ours[our_name] is not theirs[name]:
                    ours[our_name] = theirs[name]
            with torch.no_grad():
                return self._network(args[0])
        return type(self._module).forward(self._module, *args, **kwargs)

    def _takes(self, x: object) -> bool:
        if not isinstance(x, Tensor) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        theirs, name, _, _ = self._shared[0]
        like = theirs[name]
        if x.ndim != 4 or x.shape[1] != self._network.in_channels or x.numel() == 0:
            return False
        if type(x) not in (Tensor, nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(
            x
        ):
            return False
        if x.is_meta or x.device != like.device or x.dtype != like.dtype:
            return False
        if not self._any_size and (x.shape[2] % 4 or x.shape[3] % 4):
            return False
        if torch.is_autocast_enabled(x.device.type):
            return False
        if torch.is_grad_enabled() and (
            x.requires_grad or any(theirs[name].requires_grad for theirs, name, *_ in self._shared)
        ):
            return False
        if isinstance(self._network, SRResNet) and any(part.training for part in self._parts):
            return False  # BatchNorm takes the batch's own statistics
        return not any(part._forward_hooks or part._forward_pre_hooks for part in self._parts)


def _shared(
    module: nn.Module, network: SRNetwork
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any], str]]:
    """For each tensor: where the module keeps it and where our network does."""
    places = {
        id(tensor): (kept, name)
        for part in module.modules()
        for kept in (part._parameters, part._buffers)
        for name, tensor in kept.items()
        if tensor is not None
    }
    for part in network.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    yield (*places[id(tensor)], kept, name)
