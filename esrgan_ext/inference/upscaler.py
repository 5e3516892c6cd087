"""Upscales image arrays: the public functions, and which network an image goes through.

Axes and values are `arrays`' business, images of other libraries `kinds`', one network's run over
an array `prepared`'s, the loop over tiles `tile_loop`'s, one window's way `windows`', the network
`engine`'s.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, Unpack, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from esrgan_ext.errors import OptionError
from esrgan_ext.inference import arrays, kinds, ranges
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.denoising import (
    channel_strengths,
    follows_noise,
    split_by_strength,
    upscale_channels,
)
from esrgan_ext.inference.device_tensors import job as device_job
from esrgan_ext.inference.device_tensors import noise as device_noise
from esrgan_ext.inference.device_tensors import ranges as device_ranges
from esrgan_ext.inference.devices import Device, choose_devices
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.job import Call, OnTile
from esrgan_ext.inference.options import OptionValues, UpscaleOptions
from esrgan_ext.inference.plan import RunPlan
from esrgan_ext.inference.prepared import PreparedNetwork
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.ranges import DataRange
from esrgan_ext.inference.samples import has_empty_channel
from esrgan_ext.inference.tensor_values import NUMPY_DTYPES
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import info_of, load_denoising
from esrgan_ext.weights.choice import AUTO, Choice, choose_model, is_auto
from esrgan_ext.weights.info import overlap_for
from esrgan_ext.weights.search import find_model

Model = str | os.PathLike[str] | nn.Module
"""A catalogue name, a file, a network, or 'auto'."""

Image = TypeVar("Image")
"""An array, or an image of another library: the result is of the same kind."""


_OUT_IS_FOR_ARRAYS = "out is for NumPy arrays; other images get a new result"


class _AsMade:
    """Stands for "as the upscaler was made" where None and False mean something."""


_AS_MADE = _AsMade()


class Upscaler:
    """Keeps a network ready and upscales one image after another.

    Parameters
    ----------
    model : str, path or SRNetwork
        A catalogue name (`esrgan_ext.list_models`), a file, or a network. 'auto' chooses for each
        image, see `choose_model`: photos get `realesrgan-x4plus`, which draws detail, everything
        that is measured gets the model that is true to the data.
    **options
        The fields of `UpscaleOptions`: outscale, tile, overlap, device, precision, data_range,
        channel_axis, ensemble, denoise, consistent.

    Raises
    ------
    OptionError
        If an option has a value that cannot be used.
    ModelError
        If the model is unknown or cannot be read.
    DeviceError
        If the device is not on this machine.

    Attributes
    ----------
    options : UpscaleOptions
    devices : tuple of Device
        Those that `options.device` names; `device` is the first of them.

    Examples
    --------
    >>> import numpy as np
    >>> import esrgan_ext as esr
    >>> up = esr.Upscaler("lite-psnr-x4", device="cpu")
    >>> up(np.zeros((8, 9), np.uint8)).shape
    (32, 36)
    """

    def __init__(self, model: Model = AUTO, **options: Unpack[OptionValues]) -> None:
        self.options = UpscaleOptions(**options)
        self.devices = choose_devices(self.options.device, self.options.precision)
        self._chosen: dict[str, Upscaler] = {}
        self._given: tuple[float, ...] = ()
        self._prepared: PreparedNetwork | None = None  # where one is chosen for each image
        if is_auto(model):
            return
        network = load_denoising(model, self.options.denoise)
        overlap = self.options.overlap_pixels
        if overlap is None:
            overlap = overlap_for(network)
        ensemble = bool(self.options.ensemble)
        self._prepared = PreparedNetwork(network, self.devices, overlap, ensemble)

    @property
    def device(self) -> Device:
        """The first of the devices."""
        return self.devices[0]

    def share_memory(self, share: float) -> None:
        """Plan for a part of the memory that is free: other upscalers work on the devices too.

        Parameters
        ----------
        share : float
            Part of what this upscaler plans for so far, above 0 and at most 1.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> up.share_memory(0.5)
        >>> up.device.share
        0.5
        """
        self._take(tuple(replace(device, share=device.share * share) for device in self.devices))

    def _take(self, devices: tuple[Device, ...]) -> None:
        self.devices = devices
        if self._prepared is not None:
            self._prepared.take(devices)

    @property
    def _fixed(self) -> PreparedNetwork:
        if self._prepared is None:
            raise OptionError(
                "model='auto' chooses a network for each image: ask for_image(...) for the "
                "upscaler of one"
            )
        return self._prepared

    @property
    def model(self) -> str | None:
        """The name of the network; None where one is chosen for each image."""
        return None if self._prepared is None else info_of(self._prepared.network).name

    @property
    def network(self) -> SRNetwork:
        """The network in use. OptionError with `model="auto"`, as for `overlap` and `engine`."""
        return self._fixed.network

    @property
    def scale(self) -> int:
        """The network's own scale: output pixels per input pixel along each axis."""
        if self._prepared is None:  # the models that are chosen from have one scale
            return find_model(choose_model(np.dtype(np.uint8), arrays.RGB).model).scale
        return self._prepared.network.scale

    @property
    def overlap(self) -> int:
        """Context around each tile, in input pixels."""
        return self._fixed.overlap

    @property
    def engine(self) -> Engine:
        """Runs the network over single windows, for callers that hold no whole image."""
        return self._fixed.engine

    @property
    def outscale(self) -> float | None:
        """The option: output pixels per input pixel; None for the network's own scale."""
        return None if self.options.outscale is None else float(self.options.outscale)

    @property
    def data_range(self) -> DataRange:
        """The option; better given with each call."""
        return self.options.data_range

    @data_range.setter
    def data_range(self, value: DataRange) -> None:
        self.options = replace(self.options, data_range=value)

    @property
    def channel_axis(self) -> int | bool | None:
        """The option; better given with each call."""
        return self.options.channel_axis

    @channel_axis.setter
    def channel_axis(self, value: int | bool | None) -> None:
        self.options = replace(self.options, channel_axis=value)

    def choice(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
        image: np.ndarray | Tensor | None = None,
    ) -> Choice | None:
        """Which model 'auto' takes for such an array, and why.

        Parameters
        ----------
        shape : tuple of int
            The array's; at least two axes.
        dtype : numpy dtype
            bool, integer or float.
        channel_axis : int, None or False
            For this array, in place of the option.
        image : ndarray or Tensor, optional
            The array itself. With it it is known, too, whether one of its colours is empty: stains
            drawn in colour are no photo.

        Returns
        -------
        Choice or None
            ``model``, a name of the catalogue, and ``reason``, a phrase; None where a model was
            given.

        Raises
        ------
        ImageError, OptionError
            The shape is no image's; the channel axis is not one of its axes.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler(device="cpu")
        >>> print(up.choice((512, 512), np.dtype("uint16")))
        lite-micro-x4 (true to the data: 16 bits)
        >>> up.choice((512, 512, 3), np.dtype("uint8")).model
        'realesrgan-x4plus'
        """
        if self._prepared is not None:
            return None
        layout = arrays.layout_of(shape, self._axis(channel_axis))
        if isinstance(image, Tensor):
            empty = device_noise.has_empty_channel(image, layout)
        else:
            empty = image is not None and has_empty_channel(image, layout)
        return choose_model(np.dtype(dtype), layout.channels_per_image, empty_channel=empty)

    def for_image(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
        image: np.ndarray | Tensor | None = None,
    ) -> Upscaler:
        """The upscaler of the model that is chosen for such an array.

        Parameters
        ----------
        shape, dtype, channel_axis, image
            See `choice`.

        Returns
        -------
        Upscaler
            Made once for each model and kept; this one where a model was given.

        Raises
        ------
        ImageError, OptionError, ModelError, DownloadError
            See `choice` and `Upscaler`.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler(device="cpu")
        >>> up.for_image((512, 512), np.dtype("float32")).model
        'lite-micro-x4'
        """
        choice = self.choice(shape, dtype, channel_axis=channel_axis, image=image)
        return self if choice is None else self.for_model(choice.model)

    def for_model(self, model: str, network: SRNetwork | None = None) -> Upscaler:
        """The upscaler of a model, with the same options and devices.

        Parameters
        ----------
        model : str
            A catalogue name or a path.
        network : SRNetwork, optional
            The model, where it is loaded already.

        Returns
        -------
        Upscaler
            Made once for each model and kept.

        Raises
        ------
        ModelError, DownloadError
            The model is unknown, cannot be read, or cannot be downloaded.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler(outscale=2, device="cpu")
        >>> up.for_model("lite-psnr-x4").output_size(10, 20)
        (20, 40)
        """
        if model not in self._chosen:
            values: Any = vars(self.options)
            if network is not None and not isinstance(self.options.denoise, str):
                values = {**values, "denoise": None}
            self._chosen[model] = Upscaler(model if network is None else network, **values)
            self._chosen[model]._take(self.devices)  # with their share of the memory
        found = copy.copy(self._chosen[model])
        found.options = self.options
        return found

    def denoise_strength(
        self,
        image: np.ndarray,
        *,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
    ) -> float | None:
        """The strength of denoising that a call with this array takes.

        Parameters
        ----------
        image : ndarray
            As for a call. Up to 16 planes of a stack are looked at.
        channel_axis : int, None or False
            For this array, in place of the option.

        Returns
        -------
        float or None
            From 0 to 1: the option, where it is a number; what the array's noise asks for, where
            that is followed (the largest, where its channels ask for different ones). None where
            the model runs as it stands.

        Raises
        ------
        ImageError, OptionError
            The array or the axis cannot be used.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> noise = np.random.default_rng(0).normal(100, 20, (128, 128)).astype("float32")
        >>> up.denoise_strength(noise) > up.denoise_strength(np.zeros_like(noise))
        True
        """
        axis = self._axis(channel_axis)
        if self._prepared is None:
            chosen = self.for_image(image.shape, image.dtype, channel_axis=axis, image=image)
            return chosen.denoise_strength(image, channel_axis=axis)
        if not self._follows_noise:
            strength = self.options.denoise
            return None if isinstance(strength, str) else strength
        layout = arrays.layout_of(image.shape, axis)
        return max(self._strengths(image, layout))

    @property
    def _follows_noise(self) -> bool:
        options = self.options
        if self._prepared is None or options.consistent:
            return False
        info = info_of(self._prepared.network)
        # A file of the user's own, or a mix, has no pair.
        return info.denoise is not None and follows_noise(info.name, options.denoise)

    def _strengths(self, image: np.ndarray | Tensor, layout: Layout) -> list[float]:
        if self._given:
            return list(self._given)
        return channel_strengths(image, layout) if self._follows_noise else [0.0]

    def with_strength(self, strength: float) -> Upscaler:
        """The upscaler with so much denoising, whatever an image asks for.

        Parameters
        ----------
        strength : float
            From 0 to 1. The model must be one of a pair (`ModelInfo.denoise`).

        Returns
        -------
        Upscaler
            With the same options otherwise. Its network, a mix of the pair, is made once and kept.

        Raises
        ------
        OptionError
            The strength is out of its range, or the model has no pair.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> up.with_strength(0.5)(np.zeros((8, 9), np.uint8)).shape
        (32, 36)
        """
        key = f"denoise {strength}"
        if key not in self._chosen:
            network = load_denoising(self.model or "", strength)
            values: Any = {**vars(self.options), "denoise": None}
            self._chosen[key] = Upscaler(network, **values)
            self._chosen[key]._take(self.devices)
        found = copy.copy(self._chosen[key])
        found.options = replace(self.options, denoise=None)
        return found

    def with_strengths(self, strengths: Sequence[float]) -> Upscaler:
        """The upscaler with so much denoising in each channel of an image, whatever the image asks
        for: for planes of a stack that are upscaled one after another.

        Parameters
        ----------
        strengths : sequence of float
            From 0 to 1, one for each channel. The model must be one of a pair
            (`ModelInfo.denoise`).

        Returns
        -------
        Upscaler
            It shares the network and the devices.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu").with_strengths([0.2, 1.0])
        >>> up(np.zeros((2, 8, 9), np.uint16), channel_axis=0).shape
        (2, 32, 36)
        """
        found = copy.copy(self)
        found._given = tuple(strengths)
        return found

    def with_options(self, **options: Unpack[OptionValues]) -> Upscaler:
        """The upscaler with other options.

        Parameters
        ----------
        **options
            outscale, tile, data_range, channel_axis, consistent, and denoise where it is None: what
            the network does not have to be made ready anew for. See `UpscaleOptions`.

        Returns
        -------
        Upscaler
            It shares the network and the devices.

        Raises
        ------
        OptionError
            If an option cannot be used, or needs an `Upscaler` of its own.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> up.with_options(outscale=2).output_size(10, 20), up.output_size(10, 20)
        ((20, 40), (40, 80))
        """
        fixed = {"overlap", "device", "precision", "ensemble"} & options.keys()
        if options.get("denoise") is not None:
            fixed.add("denoise")
        if fixed:
            raise OptionError(f"{', '.join(sorted(fixed))}: make an Upscaler with these options")
        other = copy.copy(self)
        other.options = replace(self.options, **options)
        return other

    def with_channel_axis(self, channel_axis: int | bool | None) -> Upscaler:
        """`with_options` for arrays of other axes.

        Parameters
        ----------
        channel_axis : int, None or False
            See `UpscaleOptions`.

        Returns
        -------
        Upscaler
            It shares the network and the devices.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu").with_channel_axis(0)
        >>> up(np.zeros((3, 8, 9), np.uint8)).shape
        (3, 32, 36)
        """
        return self.with_options(channel_axis=channel_axis)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an image of that size.

        Parameters
        ----------
        height, width : int
            The image's, in pixels.

        Returns
        -------
        (int, int)
            Each side times `outscale` (the network's scale if that is None), rounded; at least 1.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> esr.Upscaler("lite-micro-x4", outscale=2.5, device="cpu").output_size(101, 200)
        (252, 500)
        """
        factor = self.scale if self.outscale is None else self.outscale
        return max(1, round(height * factor)), max(1, round(width * factor))

    def output_shape(
        self, shape: tuple[int, ...], *, channel_axis: int | bool | _AsMade | None = _AS_MADE
    ) -> tuple[int, ...]:
        """Shape of the result for an array of that shape.

        Parameters
        ----------
        shape : tuple of int
            The array's; at least two axes.
        channel_axis : int, None or False
            For this array, in place of the option.

        Returns
        -------
        tuple of int

        Raises
        ------
        ImageError, OptionError
            The shape is no image's; the channel axis is not one of its axes.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> up.output_shape((50, 40, 3)), up.output_shape((7, 50, 40))
        ((200, 160, 3), (7, 200, 160))
        """
        layout = arrays.layout_of(shape, self._axis(channel_axis))
        return layout.resized(*self.output_size(layout.height, layout.width)).shape

    def images_at_once(self, height: int, width: int) -> int:
        """How many images of a stack of that size run together.

        Parameters
        ----------
        height, width : int
            An image's, in pixels.

        Returns
        -------
        int
            1 where images are large: from 64 x 64 pixels on a CPU, from 512 x 512 on a GPU.

        Raises
        ------
        OptionError
            `model="auto"`: there is no network yet.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> esr.Upscaler("lite-micro-x4", device="cpu").images_at_once(64, 64)
        1
        """
        return self._fixed.tiles.batch(height * width)

    def plan(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
    ) -> RunPlan:
        """Cost of a run on an array of that shape and dtype, without running it.

        Parameters
        ----------
        shape : tuple of int
            The array's; at least two axes.
        dtype : numpy dtype
            bool, integer or float.
        channel_axis : int, None or False
            For this array, in place of the option.

        Returns
        -------
        RunPlan
            ``output_shape``, ``output_bytes``, ``tile`` (its side in input pixels), ``tiles``,
            ``macs`` (multiply-accumulates) and ``work_bytes`` (memory for one tile's work).

        Raises
        ------
        ImageError, OptionError
            If the shape cannot be upscaled.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", tile=256, device="cpu")
        >>> plan = up.plan((5, 512, 512), np.dtype("uint16"))
        >>> plan.output_shape, plan.output_bytes, plan.tiles
        ((5, 2048, 2048), 41943040, 20)
        """
        axis = self._axis(channel_axis)
        if self._prepared is None:
            chosen = self.for_image(shape, dtype, channel_axis=axis)
            return chosen.plan(shape, dtype, channel_axis=axis)
        return self._prepared.plan(arrays.layout_of(shape, axis), np.dtype(dtype), self.options)

    def value_map(
        self,
        image: Image,
        *,
        data_range: DataRange | _AsMade = _AS_MADE,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
    ) -> ValueMap:
        """The values of an array that are taken as black and white.

        Parameters
        ----------
        image : ndarray
            As for a call.
        data_range : (float, float), 'auto', 'type', 'minmax' or None
            For this image, in place of the option.
        channel_axis : int, None or False
            For this image, in place of the option.

        Returns
        -------
        ValueMap
            ``low`` and ``high``, in the image's values.

        Raises
        ------
        ImageError, OptionError
            The array's dtype or axes, or the range, cannot be used; or it holds infinities.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-micro-x4", device="cpu")
        >>> plane = np.linspace(100, 900, 10_000).reshape(100, 100)
        >>> values = up.value_map(plane, data_range="minmax")
        >>> values.low, values.high
        (100.0, 900.0)
        """
        chosen = self.options.data_range if isinstance(data_range, _AsMade) else data_range
        pixels = cast(np.ndarray, image)
        layout = arrays.layout_of(pixels.shape, self._axis(channel_axis))
        return ranges.value_map(pixels, chosen, layout)

    @overload
    def __call__(
        self,
        image: Image,
        *,
        data_range: DataRange | _AsMade = ...,
        channel_axis: int | bool | _AsMade | None = ...,
        progress: Progress | None = ...,
        on_tile: OnTile | None = ...,
        out: np.ndarray | None = ...,
        start: tuple[float, float] | None = ...,
        region: Rect | None = ...,
        return_std: Literal[False] = ...,
    ) -> Image: ...
    @overload
    def __call__(
        self,
        image: Image,
        *,
        data_range: DataRange | _AsMade = ...,
        channel_axis: int | bool | _AsMade | None = ...,
        progress: Progress | None = ...,
        on_tile: OnTile | None = ...,
        out: np.ndarray | None = ...,
        start: tuple[float, float] | None = ...,
        region: Rect | None = ...,
        return_std: Literal[True],
    ) -> tuple[Image, Image]: ...
    @overload
    def __call__(
        self,
        image: Image,
        *,
        data_range: DataRange | _AsMade = ...,
        channel_axis: int | bool | _AsMade | None = ...,
        progress: Progress | None = ...,
        on_tile: OnTile | None = ...,
        out: np.ndarray | None = ...,
        start: tuple[float, float] | None = ...,
        region: Rect | None = ...,
        return_std: bool,
    ) -> Image | tuple[Image, Image]: ...
    def __call__(
        self,
        image: Image,
        *,
        data_range: DataRange | _AsMade = _AS_MADE,
        channel_axis: int | bool | _AsMade | None = _AS_MADE,
        progress: Progress | None = None,
        on_tile: OnTile | None = None,
        out: np.ndarray | None = None,
        start: tuple[float, float] | None = None,
        region: Rect | None = None,
        return_std: bool = False,
    ) -> Any:
        """Upscale an image, or every image of a stack.

        Parameters
        ----------
        image : ndarray, or torch.Tensor, xarray.DataArray, PIL image, array with DLPack
            bool, integers or float16/32/64; see `channel_axis` for the axes. A tensor is C, H, W or
            N, C, H, W with 1 to 4 channels (bfloat16 too), of any strides, floats in [0, 1] unless
            `data_range` says otherwise. The result is of the same kind, on the same device: what
            lies on a CUDA device, and is upscaled there, is never copied to the host.
        data_range : (float, float), 'auto', 'type', 'minmax' or None
            For this image, in place of the option. A range that follows the data is one for the
            whole array.
        channel_axis : int, None or False
            For this image, in place of the option.
        progress : callable, optional
            ``progress(done, total)`` in input pixels of work, at least every half second;
            returning False, or raising, stops the work.
        on_tile : callable, optional
            ``on_tile(piece, slices)`` with each finished piece of the result: a tensor of a
            tensor's, else an array.
        out : ndarray, optional
            Where to write the result, of the right shape and dtype (a memory-mapped file,
            say); made if not given.
        start : (float, float), optional
            Row and column of the image that matter most: the tiles of each image are done
            from there outwards, instead of from the top left.
        region : Rect, optional
            The part of each image that is upscaled; the result is of it alone. The pixels around it
            are what the network sees beyond its edges, as far as the overlap reaches.
        return_std : bool
            Give the spread over the 8 flips and rotations too: 8 times the work. The result is
            their mean. docs/trust.md says how the spread compares with the true error.

        Returns
        -------
        The kind of the image
            Its dtype, axes, value range and device; NaN pixels come back as NaN. A tensor's has no
            gradients.
        The same kind, float32
            With `return_std` a second one of the same shape: the standard deviation of the 8
            results at each pixel, in the image's units.

        Raises
        ------
        ImageError
            If the array's dtype, shape or channels cannot be upscaled, or it holds infinities.
        UpscaleCancelled
            If `progress` asked to stop.
        OutOfMemory
            If not even the smallest tile fits into memory.

        Examples
        --------
        >>> import numpy as np
        >>> import esrgan_ext as esr
        >>> up = esr.Upscaler("lite-psnr-x4", device="cpu")
        >>> up(np.zeros((2, 8, 9), np.float32), data_range=(0, 1)).shape  # a stack of two planes
        (2, 32, 36)
        >>> result, spread = up(np.zeros((8, 9), np.uint8), return_std=True)
        >>> spread.shape, spread.dtype
        ((32, 36), dtype('float32'))
        """
        axis = self._axis(channel_axis)
        call = Call(progress, on_tile, out, start, region, return_std)
        there = kinds.on_device(image, axis)
        if there is not None and device_job.stays(there.tensor, self.devices):
            if out is not None:
                raise OptionError(_OUT_IS_FOR_ARRAYS)
            return self._on_device(there, data_range, call)
        if (given := kinds.unwrap(image, axis)) is not None:
            return self._rewrapped(given, data_range, call)
        pixels = np.asarray(image)
        if self._prepared is None:
            chosen: Any = self.for_image(
                pixels.shape, pixels.dtype, channel_axis=axis, image=pixels
            )
            return chosen(pixels, data_range=data_range, channel_axis=axis, **vars(call))
        layout = arrays.layout_of(pixels.shape, axis)
        values = self.value_map(pixels, data_range=data_range, channel_axis=axis)
        return self._run(pixels, layout, values, call)

    def _run(
        self, pixels: np.ndarray | Tensor, layout: Layout, values: ValueMap, call: Call
    ) -> Any:
        """A call with what is known of the image: through the network, or through mixes of its pair
        as the noise asks for."""
        self._fixed.engine.groups(layout.channels_per_image)
        _, strengths = split_by_strength(layout, self._strengths(pixels, layout))

        def denoised(strength: float, pixels: Any, layout: Layout, call: Call) -> Any:
            one = self.with_strength(strength)
            return one._fixed.run(pixels, layout, values, one.options, call)

        if len(strengths) > 1:
            return upscale_channels(denoised, pixels, layout, strengths, call)
        if strengths[0]:
            return denoised(strengths[0], pixels, layout, call)
        return self._fixed.run(pixels, layout, values, self.options, call)

    def _on_device(self, there: kinds.OnDevice, data_range: DataRange | _AsMade, call: Call) -> Any:
        """A call with an image whose pixels stay on their GPU."""
        pixels, axis = there.tensor, there.channel_axis
        narrow = pixels.dtype == torch.bfloat16  # NumPy, whose ranges these are, has none
        if narrow:
            pixels = pixels.float()
        shape, dtype = tuple(pixels.shape), NUMPY_DTYPES[pixels.dtype]
        one = self.for_image(shape, dtype, channel_axis=axis, image=pixels)
        chosen = one.options.data_range if isinstance(data_range, _AsMade) else data_range
        if chosen is None and there.type_range:
            chosen = "type"
        layout = arrays.layout_of(shape, axis)
        used = (pixels.device, *(device.device for device in one.devices))
        several = len(one.devices) > 1  # their threads have streams of their own
        # Autocast, if it is on, is meant for the caller's own operations.
        with torch.autocast("cuda", enabled=False), torch.no_grad():
            values = device_ranges.value_map(pixels, chosen, layout)
            if several:
                device_job.finish_work(used)
            found = one._run(pixels, layout, values, call)
        if several:
            device_job.finish_work(used)
        result, *spread = found if call.return_std else (found,)
        wrapped = there.wrap(result.bfloat16() if narrow else result)
        return (wrapped, *map(there.wrap, spread)) if spread else wrapped

    def _rewrapped(
        self, given: kinds.Unwrapped, data_range: DataRange | _AsMade, call: Call
    ) -> Any:
        """A call with an image of another library."""
        if call.out is not None:
            raise OptionError(_OUT_IS_FOR_ARRAYS)
        chosen = self.options.data_range if isinstance(data_range, _AsMade) else data_range
        if chosen is None and given.type_range:
            chosen = "type"
        on_tile, wrap_part = call.on_tile, given.wrap_part
        if on_tile is not None and wrap_part is not None:
            call = replace(call, on_tile=lambda piece, where: on_tile(wrap_part(piece), where))
        result: Any = self(
            given.array, data_range=chosen, channel_axis=given.channel_axis, **vars(call)
        )
        if call.return_std:
            return given.wrap(result[0]), (given.wrap_spread or given.wrap)(result[1])
        return given.wrap(result)

    def _axis(self, given: int | bool | _AsMade | None) -> int | bool | None:
        return self.options.channel_axis if isinstance(given, _AsMade) else given


@overload
def upscale(
    image: Image,
    model: Model = ...,
    *,
    progress: Progress | None = ...,
    on_tile: OnTile | None = ...,
    return_std: Literal[False] = ...,
    **options: Unpack[OptionValues],
) -> Image: ...
@overload
def upscale(
    image: Image,
    model: Model = ...,
    *,
    progress: Progress | None = ...,
    on_tile: OnTile | None = ...,
    return_std: Literal[True],
    **options: Unpack[OptionValues],
) -> tuple[Image, Image]: ...
@overload
def upscale(
    image: Image,
    model: Model = ...,
    *,
    progress: Progress | None = ...,
    on_tile: OnTile | None = ...,
    return_std: bool,
    **options: Unpack[OptionValues],
) -> Image | tuple[Image, Image]: ...
def upscale(
    image: Image,
    model: Model = AUTO,
    *,
    progress: Progress | None = None,
    on_tile: OnTile | None = None,
    return_std: bool = False,
    **options: Unpack[OptionValues],
) -> Any:
    """Upscale one image or stack.

    Loads the model each time: for several images make an `Upscaler` once.

    Parameters
    ----------
    image : ndarray, or torch.Tensor, xarray.DataArray, PIL image, array with DLPack
        A tensor is C, H, W or N, C, H, W, its floats in [0, 1]; the result is of the same kind.
        Arrays: bool, integers or float16/32/64; (H, W), (H, W, 3) RGB, (H, W, 4) RGBA, or a stack
        of planes. `channel_axis` says otherwise.
    model : str, path or SRNetwork
        A catalogue name (`esrgan_ext.list_models`), a file, a network, or 'auto': photos (8-bit
        RGB and RGBA) get `realesrgan-x4plus`, which draws detail, everything else the model that is
        true to the data.
    progress, on_tile : callable, optional
        See `Upscaler.__call__`.
    return_std : bool
        Give the spread over the 8 flips and rotations too, see `Upscaler.__call__`.
    **options
        The fields of `UpscaleOptions`: outscale, tile, overlap, device, precision, data_range,
        channel_axis, ensemble, denoise, consistent.

    Returns
    -------
    The kind of the image
        Its dtype, axes, value range and device, its sides times the model's scale or `outscale`.
    The same kind, float32
        With `return_std` the spread too.

    Raises
    ------
    OptionError, ImageError, ModelError, DownloadError, DeviceError, OutOfMemory, UpscaleCancelled
        See `Upscaler`.

    Examples
    --------
    >>> import numpy as np
    >>> import esrgan_ext as esr
    >>> esr.upscale(np.zeros((8, 9), np.uint16), device="cpu").shape
    (32, 36)
    """
    upscaler: Any = Upscaler(model, **options)
    result: np.ndarray | tuple[np.ndarray, np.ndarray] = upscaler(
        image, progress=progress, on_tile=on_tile, return_std=return_std
    )
    return result
