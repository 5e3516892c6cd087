"""Recipes of training runs: frozen dataclasses read from small TOML files.

The recipes of the papers and scaled-down ones lie in `recipes/`; a user's own file may name one of
them as its `base` and state the differences only. What a run is given beside that (folders,
device, seed) is `RunOptions` in `trainer`.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from esrgan_ext.errors import OptionError


@dataclass(frozen=True)
class GeneratorOptions:
    """The network to train: `RRDBNetConfig`, `SRResNetConfig` or `CompactConfig` in one.

    Attributes
    ----------
    architecture
        "rrdbnet", "srresnet" or "compact" (SRVGGNetCompact, with PReLU).
    nf, nb, gc
        Feature channels; blocks, or the chain's convolutions; growth channels (RRDBNet only).
    scale
        Output pixels per input pixel along each axis.
    channels
        Channels of the image: 3, or 1 (RRDBNet on exposures only).
    batch_norm
        SRResNet only.
    """

    architecture: Literal["rrdbnet", "srresnet", "compact"] = "rrdbnet"
    nf: int = 64
    nb: int = 23
    gc: int = 32
    scale: int = 4
    channels: int = 3
    batch_norm: bool = True


@dataclass(frozen=True)
class DataOptions:
    """Contents of a batch.

    Attributes
    ----------
    patch
        Side of an HR patch in pixels; a multiple of the scale.
    batch
        Patches a step, over all processes together.
    flip, rotate
        Mirror left to right, and turn by multiples of 90 degrees, at random.
    degradation
        "bicubic" (MATLAB's imresize of whole images), "real-esrgan" (blind, second order) or
        "exposure" (single channels as a camera measures them; see `ExposureOptions`).
    """

    patch: int = 128
    batch: int = 16
    flip: bool = True
    rotate: bool = True
    degradation: Literal["bicubic", "real-esrgan", "exposure"] = "bicubic"


@dataclass(frozen=True)
class ExposureOptions:
    """How exposures of single-channel images vary, patch by patch.

    Attributes
    ----------
    area
        Share whose LR patches are averages over scale x scale pixels; the others are bicubic.
    clean
        Share without noise.
    photons
        Fewest and most photons in the brightest pixels (log-uniform between them).
    read_noise
        Standard deviation of the camera's read noise in electrons.
    least_gain
        Patches are darkened by a factor between this and 1 (log-uniform).
    largest_offset
        And raised by up to this much.
    colour
        Share whose three channels are of three places; the others are gray. Nothing to a network of
        one channel.
    """

    area: float = 0.8
    clean: float = 1.0
    photons: tuple[float, float] = (20.0, 2000.0)
    read_noise: float = 1.6
    least_gain: float = 0.4
    largest_offset: float = 0.1
    colour: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.area, self.clean, self.colour)
        if not all(0 <= share <= 1 for share in shares) or not 0 < self.least_gain <= 1:
            raise OptionError(
                "area, clean and colour must be from 0 to 1, least_gain above 0 and at most 1"
            )
        if not 0 < self.photons[0] <= self.photons[1] or min(self.read_noise, 0) < 0:
            raise OptionError("photons must be two rising numbers above 0, read_noise at least 0")


@dataclass(frozen=True)
class ScheduleOptions:
    """The learning rate over the steps.

    Attributes
    ----------
    learning_rate
        Adam's step size for the generator, and for the discriminator where there is one.
    warmup
        Steps over which it rises from zero.
    shape
        "steps": multiplied by `decay` at each of `milestones`; "cosine": half a cosine from
        `learning_rate` after the warm-up to zero at the last step; "trapezoid": constant, then
        linearly to zero over the last share `falling` of the steps (arXiv 2405.18392), which the
        average of the weights hides the noise of until then.
    """

    learning_rate: float = 2e-4
    warmup: int = 0
    shape: Literal["steps", "cosine", "trapezoid"] = "steps"
    milestones: tuple[int, ...] = ()
    decay: float = 0.5
    falling: float = 0.15


@dataclass(frozen=True)
class LossOptions:
    """Weights of the generator's losses; 0 leaves one out.

    Attributes
    ----------
    l1, perceptual, adversarial
        Weights.
    rounding
        L1's corner is rounded below this difference, as sqrt(d^2 + rounding^2) - rounding
        (Charbonnier); 0 is L1 itself.
    gan
        "relativistic" (relativistic average, ESRGAN) or "plain" (SRGAN).
    features
        Network of the perceptual loss: "vgg19" (conv5_4) or "vgg16" (conv5_3).
    before_activation
        Compare features before the ReLU (ESRGAN) or after it (SRGAN).
    feature_distance
        "l1" (ESRGAN's code) or "l2" (SRGAN: mean squared error).
    block_weights
        Weights of the last convolutions of the network's five blocks in the perceptual loss
        (Real-ESRGAN's code: 0.1, 0.1, 1, 1, 1); empty: that of the last block alone.
    """

    l1: float = 1.0
    rounding: float = 0.0
    perceptual: float = 0.0
    adversarial: float = 0.0
    gan: Literal["relativistic", "plain"] = "relativistic"
    features: Literal["vgg19", "vgg16"] = "vgg19"
    before_activation: bool = True
    feature_distance: Literal["l1", "l2"] = "l1"
    block_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        weights = self.block_weights
        if weights and (len(weights) != 5 or min(weights) < 0 or not any(weights)):
            raise OptionError(
                "block_weights must be five numbers, none below 0 and one above it, or empty"
            )


@dataclass(frozen=True)
class DiscriminatorOptions:
    """Which discriminator, and its width.

    Attributes
    ----------
    kind
        "vgg" (for one patch size) or "unet" (with spectral norm, for any size).
    nf
        Channels of the first convolution.
    """

    kind: Literal["vgg", "unet"] = "vgg"
    nf: int = 64


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes
    ----------
    name, summary
        For people.
    steps
        Optimizer steps in all.
    betas
        Adam's decay rates of the first and the second moment, from 0 to 1.
    ema
        Decay of the exponential moving average of the weights, which is what is validated and
        exported; 0 switches it off.
    clip
        Largest gradient norm; 0 switches it off.
    initialisation_scale
        Factor on He's initialisation in residual blocks (ESRGAN, supplementary: 0.1).
    nearest_start
        Begin about as nearest-neighbour upsampling, which short runs need not learn first: an
        RRDBNet with three feature channels that carry the image through, a compact network with a
        last convolution near zero. Nothing to an SRResNet.
    needs_init
        Refuse to begin with random weights.
    """

    name: str = "custom"
    summary: str = ""
    steps: int = 1_000_000
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    data: DataOptions = field(default_factory=DataOptions)
    exposure: ExposureOptions = field(default_factory=ExposureOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    discriminator: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    clip: float = 0.0
    initialisation_scale: float = 0.1
    nearest_start: bool = False
    needs_init: bool = False

    def __post_init__(self) -> None:
        scale = self.generator.scale
        if self.data.patch < scale or self.data.patch % scale:
            raise OptionError(
                f"patch must be a multiple of the scale {scale}, not {self.data.patch}"
            )
        if self.steps < 1 or self.data.batch < 1:
            raise OptionError("steps and batch must be at least 1")
        if not (0 <= self.ema < 1 and self.clip >= 0 and self.schedule.learning_rate > 0):
            raise OptionError("ema must be in [0, 1), clip at least 0, learning_rate above 0")
        if self.generator.channels not in (1, 3):
            raise OptionError(f"channels must be 1 or 3, not {self.generator.channels}")
        if self.generator.channels == 1 and (
            self.generator.architecture != "rrdbnet"
            or self.data.degradation != "exposure"
            or self.losses.perceptual > 0
            or self.losses.adversarial > 0
        ):
            raise OptionError(
                "a network of one channel is an RRDBNet trained on exposures, by L1 alone"
            )
        adversarial = self.losses.adversarial > 0
        if adversarial and self.discriminator.kind == "vgg" and self.data.patch % 32:
            raise OptionError(
                f"the VGG discriminator takes patches that are multiples of 32, "
                f"not {self.data.patch}"
            )

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained too."""
        return self.losses.adversarial > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in a TOML file."""
        return dataclasses.asdict(self)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = importlib.resources.files("esrgan_ext.training") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name : str
        One of `recipe_names`, or a path to a `.toml` file.
    overrides : mapping, optional
        Values by dotted name ("data.batch"), which replace the file's. None values are ignored.

    Raises
    ------
    OptionError
        There is no such recipe, or it holds a key or value that is not known.
    """
    values = _read(name, seen=())
    for key, value in (overrides or {}).items():
        if value is not None:
            *sections, last = key.split(".")
            table = values
            for section in sections:
                table = table.setdefault(section, {})
            table[last] = value
    return from_dict(values, name)


def from_dict(values: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """The recipe of `Recipe.as_dict`; OptionError where a key or a value's type is unknown."""
    return _build(Recipe, values, origin)


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise OptionError(f"the recipes {', '.join(seen)} name each other as base")
    try:
        if name.endswith(".toml"):
            # Opening a pipe would wait for its writer.
            if Path(name).exists() and not Path(name).is_file():
                raise OptionError(f"{name}: is no regular file")
            text = Path(name).read_text("utf-8")
        elif name in recipe_names():
            folder = importlib.resources.files("esrgan_ext.training") / "recipes"
            text = (folder / f"{name}.toml").read_text("utf-8")
        else:
            raise OptionError(
                f"no recipe is called {name!r}. Known: {', '.join(recipe_names())}; "
                "a path to a .toml file is possible too"
            )
        values = tomllib.loads(text)
    except OSError as error:
        raise OptionError(f"{name}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{name} is not TOML: {error}") from error
    base = values.pop("base", None)
    if base is None:
        return values
    if str(base).endswith(".toml"):
        base = str(Path(name).parent / base)
    return _merged(_read(str(base), (*seen, name)), values)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if nested else value
    return result


def _build(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise OptionError(
            f"{where}: unknown {', '.join(sorted(unknown))}; known: {', '.join(hints)}"
        )
    return kind(**{k: _value(hints[k], v, f"{where}: {k}") for k, v in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise OptionError(f"{where} must be a table")
        return _build(hint, value, where)
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(map(str, typing.get_args(hint)))
            raise OptionError(f"{where} must be one of {choices}, not {value!r}")
        return value
    if origin is tuple:
        kinds = typing.get_args(hint)
        variable = len(kinds) == 2 and kinds[1] is Ellipsis
        if not isinstance(value, list | tuple) or not (variable or len(value) == len(kinds)):
            raise OptionError(f"{where} must be a list, not {value!r}")
        return tuple(_value(kinds[0], v, where) for v in value)
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (hint is not bool and isinstance(value, bool)):
        raise OptionError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return hint(value)
