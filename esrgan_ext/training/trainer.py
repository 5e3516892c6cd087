"""The training loop: steps, validation, checkpoints, resuming, and what happens when it diverges.

A step depends on the checkpoint before it, the recipe and the seed alone, so a run that was killed
and taken up again gives the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esrgan_ext.errors import OptionError, TrainingError, first_line
from esrgan_ext.inference.devices import PRECISIONS
from esrgan_ext.models import SRNetwork
from esrgan_ext.training import checkpoint
from esrgan_ext.training.dataset import PatchPairs, StepBatches, as_images, batches
from esrgan_ext.training.distributed import Group
from esrgan_ext.training.ema import ExponentialMovingAverage, decay_at
from esrgan_ext.training.objectives import PixelObjective
from esrgan_ext.training.pack import PackedImages
from esrgan_ext.training.recipe import Recipe
from esrgan_ext.training.reports import Report, StepReport
from esrgan_ext.training.resident import ResidentPatches
from esrgan_ext.training.schedule import learning_rate
from esrgan_ext.training.shards import Shards
from esrgan_ext.training.steps import Gradients, ResidentSteps, own_random_numbers, paired
from esrgan_ext.training.validation import ValidationPair, validate
from esrgan_ext.weights import save_model

#: Rollbacks after which a run gives up, if no checkpoint was written between them.
MAX_ROLLBACKS = 5


#: Name of the checkpoint in a run's folder.
CHECKPOINT = "last.ckpt"

CPU = torch.device("cpu")


@dataclass(frozen=True)
class RunOptions:
    """Options of a run beside its recipe.

    Attributes
    ----------
    out : Path
        Folder of the checkpoints, the log and the weights.
    device : torch.device
    precision : {'fp32', 'fp16', 'bf16'}
        fp16 and bf16: mixed precision, the weights stay float32.
    seed : int
        Seed of the initial weights and the patches.
    workers : int
        Loader processes; 0 loads between the steps, which costs next to nothing on packed files.
    checkpoint_every, validate_every, log_every : int
        In steps; 0 is never, but for the log.
    deterministic : bool
        Ask torch for deterministic algorithms on a GPU too, at some cost in speed.
    resident : bool or None
        The images lie on the device and a step never leaves it: on a GPU in one CUDA graph. None:
        on a GPU where the recipe and its memory allow it, and always for exposures.
    """

    out: Path
    device: torch.device = CPU
    precision: str = "fp32"
    seed: int = 0
    workers: int = 0
    checkpoint_every: int = 1000
    validate_every: int = 1000
    log_every: int = 100
    deterministic: bool = False
    resident: bool | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("checkpoint_every", 0), ("validate_every", 0), ("log_every", 1), ("workers", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise OptionError(
                    f"{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}"
                )


class Trainer:
    """Trains one network.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions
    generator : SRNetwork
        With its initial weights, on the CPU.
    objective : PixelObjective
    images : PackedImages or ResidentPatches
        Packed: a loader draws patches. Resident: they are drawn on the device.
    validation : list of ValidationPair
        Empty for none.
    group : Group
    report : Report
        Is told of steps, validations and rollbacks.

    Attributes
    ----------
    step : int
        Steps done.
    """

    def __init__(
        self,
        recipe: Recipe,
        options: RunOptions,
        generator: SRNetwork,
        objective: PixelObjective,
        images: PackedImages | ResidentPatches,
        validation: list[ValidationPair],
        group: Group,
        report: Report,
    ) -> None:
        self.recipe, self.options = recipe, options
        self.step = 0
        self._rollbacks = self._rollbacks_in_a_row = 0
        self._group, self._report = group, report
        self._images, self._validation = images, validation
        device = options.device
        self.generator = generator.to(device)
        self.objective = objective
        objective.to(device)
        self.ema = ExponentialMovingAverage(self.generator, recipe.ema) if recipe.ema else None
        self._optimizers = [self._adam(self.generator)]
        if objective.discriminator is not None:
            self._optimizers.append(self._adam(objective.discriminator))
        self._shards = self._own_shards()
        half = options.precision == "fp16"
        self._scalers = [torch.amp.GradScaler(device.type, enabled=half) for _ in self._optimizers]

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        trained = [p for p in network.parameters() if p.requires_grad]
        rate: float | Tensor = self.recipe.schedule.learning_rate
        if self._in_graph:
            rate = torch.tensor(rate, device=self.options.device)
        return torch.optim.Adam(
            trained, lr=rate, betas=self.recipe.betas, fused=True, capturable=self._in_graph
        )

    def _own_shards(self) -> Shards:
        """Threads for parts of a batch, on a CPU and where its images do not depend on each other:
        a discriminator's means are over the whole batch.
        """
        scaled = self.options.precision == "fp16"  # a scale is of one loss
        if self.options.device.type != "cpu" or scaled or self.objective.discriminator is not None:
            return Shards(1)
        return Shards(self.recipe.data.batch // self._group.world)

    @property
    def _in_graph(self) -> bool:
        """Whether steps may be captured: rates and counts lie on the device then."""
        return not isinstance(self._images, PackedImages) and self.options.device.type == "cuda"

    @property
    def best_network(self) -> SRNetwork:
        """The network to validate and export: the average, or the network without one."""
        network = self.generator if self.ema is None else self.ema.network
        assert isinstance(network, SRNetwork)
        return network

    @property
    def checkpoint_path(self) -> Path:
        return self.options.out / CHECKPOINT

    @property
    def model_path(self) -> Path:
        return self.options.out / "model.safetensors"

    def run(self, until: int | None = None) -> None:
        """Train to the recipe's last step, or to an earlier one.

        Raises
        ------
        TrainingError
            The losses are not finite again and again, or a batch is malformed.
        """
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        with _modes_of_torch(self.options), contextlib.closing(self._shards):
            if self.step == 0:
                self.save()  # what an early rollback goes back to
            while self.step < last:
                if isinstance(self._images, PackedImages):
                    done = self._train(last, self._images)
                else:
                    done = self._train_resident(last, self._images)
                if done:
                    break
                self._roll_back()
            self.save()

    def _train(self, last: int, images: PackedImages) -> bool:
        """Step until `last`; False as soon as a step was not finite."""
        options = self.options
        clock, averages = _Clock(), _Averages()
        for lr, hr in self._loader(last, images):
            report = self.train_step(lr, hr)
            if report is None:
                return False
            clock.count()
            averages.add(report.losses)
            if self.step % options.log_every == 0 or self.step == last:
                averaged = replace(report, losses=averages.take())
                self._report.step(averaged, clock.steps_per_second())
            if options.checkpoint_every and self.step % options.checkpoint_every == 0:
                self.save()
            if self._is_due_for_validation(last):
                self.validate()
                clock = _Clock()
        return True

    def _is_due_for_validation(self, last: int) -> bool:
        every = self.options.validate_every
        return (
            bool(self._validation) and every > 0 and (self.step % every == 0 or self.step == last)
        )

    def _train_resident(self, last: int, patches: ResidentPatches) -> bool:
        """Step until `last` on the device; False if a gradient was not finite meanwhile."""
        options, schedule = self.options, self.recipe.schedule
        steps = self._resident_steps(patches)
        clock = _Clock()
        with own_random_numbers(options.device):
            while self.step < last:
                rate = learning_rate(schedule, self.step, self.recipe.steps)
                decay = 1.0 if self.ema is None else decay_at(self.ema.decay, self.step)
                steps.advance(_seed(options.seed, self._rollbacks, self.step), rate, decay)
                self.step += 1
                clock.count()
                saves = options.checkpoint_every and self.step % options.checkpoint_every == 0
                logs = self.step % options.log_every == 0 or self.step == last
                validates = self._is_due_for_validation(last)
                if not (saves or logs or validates):
                    continue
                if steps.failed():
                    return False
                if logs:
                    losses, norm = steps.take()
                    report = StepReport(self.step, self.recipe.steps, rate, losses, norm)
                    self._report.step(report, clock.steps_per_second())
                if saves:
                    self.save()
                if validates:
                    self.validate()
                    clock = _Clock()
        steps.wait()
        return True

    def _resident_steps(self, patches: ResidentPatches) -> ResidentSteps:
        averages = [] if self.ema is None else paired(self.generator, self.ema.network)

        def compute() -> Gradients:
            low, high = patches.draw()
            parts, norms = self._gradients(low, high)
            return Gradients(parts, norms)

        device = self.options.device
        return ResidentSteps(compute, self._optimizers, averages, device, self._report.said)

    def _loader(self, last: int, images: PackedImages) -> Iterator[tuple[Tensor, Tensor]]:
        recipe, options = self.recipe, self.options
        seed = (options.seed, self._rollbacks)  # after a rollback other patches come
        patches = PatchPairs(images, recipe.data, recipe.generator.scale, seed)
        sampler = StepBatches(
            self.step, last, recipe.data.batch, self._group.rank, self._group.world
        )
        pinned = options.device.type == "cuda"
        return iter(batches(patches, sampler, options.workers, pinned))

    def train_step(self, lr: Tensor, hr: Tensor) -> StepReport | None:
        """One optimizer step of each network.

        Parameters
        ----------
        lr, hr : Tensor, shape (N, h, w, 3) and (N, scale * h, scale * w, 3), uint8
            This process's share of the batch.

        Returns
        -------
        StepReport or None
            None if a gradient was not finite; nothing was changed then.

        Raises
        ------
        TrainingError
            The shapes do not fit each other.
        """
        scale = self.recipe.generator.scale
        expected = (lr.shape[0], lr.shape[1] * scale, lr.shape[2] * scale, 3)
        if tuple(hr.shape) != expected:
            raise TrainingError(
                f"HR patches have shape {tuple(hr.shape)}; with LR patches of {tuple(lr.shape)} "
                f"at scale {scale} they must have {expected}"
            )
        device = self.options.device
        low, high = as_images(lr, device), as_images(hr, device)
        rate = learning_rate(self.recipe.schedule, self.step, self.recipe.steps)
        parts, norms = self._gradients(low, high)
        if not self._update(rate, norms):
            return None
        if self.ema is not None:
            self.ema.update(self.generator, self.step)
        self.step += 1
        return StepReport(self.step, self.recipe.steps, rate, parts, norms[0])

    def _gradients(self, low: Tensor, high: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses of a batch, and the norms of the gradients that it leaves behind."""
        if 1 < self._shards.count <= len(low):
            return self._gradients_by_shards(low, high)
        discriminator = self.objective.discriminator
        if discriminator is not None:
            discriminator.requires_grad_(False)
        with self._autocast():
            sr = self.generator(low)
            loss, parts = self.objective.generator_loss(sr, high)
        norms = [self._backward(0, loss, self.generator)]
        if discriminator is not None:
            discriminator.requires_grad_(True)
            with self._autocast():
                loss, more = self.objective.discriminator_loss(sr.detach(), high)
            parts = {**parts, **more}
            norms.append(self._backward(1, loss, discriminator))
        return parts, norms

    def _gradients_by_shards(
        self, low: Tensor, high: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The same of a batch in parts: means over it are sums of the parts' shares."""
        trained = [p for p in self.generator.parameters() if p.requires_grad]

        def compute(low: Tensor, high: Tensor, share: float) -> tuple[Any, ...]:
            with self._autocast():
                loss, parts = self.objective.generator_loss(self.generator(low), high)
            # Not backward(), which adds to the parameters in whatever order the threads come.
            gradients = torch.autograd.grad(share * loss, trained)
            return gradients, {name: share * value for name, value in parts.items()}

        lows, highs = self._shards.split(low), self._shards.split(high)
        results = self._shards.map(compute, lows, highs, [len(part) / len(low) for part in lows])
        gradients = list(results[0][0])
        losses = dict(results[0][1])
        for more, parts in results[1:]:
            torch._foreach_add_(gradients, list(more))
            losses = {name: value + parts[name] for name, value in losses.items()}
        for p, gradient in zip(trained, gradients, strict=True):
            p.grad = gradient
        return losses, [self._averaged(0, self.generator)]

    def _autocast(self) -> torch.autocast:
        precision = self.options.precision
        return torch.autocast(
            self.options.device.type,
            PRECISIONS[precision],
            enabled=precision != "fp32",
            # A replay casts anew, whatever was cached; shards would share what one of them cast.
            cache_enabled=not self._in_graph and self._shards.count == 1,
        )

    def _backward(self, k: int, loss: Tensor, network: nn.Module) -> Tensor:
        """Gradients of optimizer k's network from its loss; as `_averaged`."""
        optimizer, scaler = self._optimizers[k], self._scalers[k]
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        return self._averaged(k, network)

    def _averaged(self, k: int, network: nn.Module) -> Tensor:
        """Average, unscale and clip the gradients of optimizer k's network; their norm."""
        parameters = [p for p in network.parameters() if p.grad is not None]
        self._group.average_gradients(parameters)
        self._scalers[k].unscale_(self._optimizers[k])
        limit = self.recipe.clip or float("inf")
        return nn.utils.clip_grad_norm_(parameters, limit)

    def _update(self, rate: float, norms: list[Tensor]) -> bool:
        """Step all optimizers, or none if a gradient was not finite.

        The norms are those of averaged gradients, so all processes decide alike.
        """
        mixed = self._scalers[0].is_enabled()
        if not mixed and not bool(torch.isfinite(torch.stack(norms)).all()):
            return False
        for optimizer, scaler in zip(self._optimizers, self._scalers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            scaler.step(optimizer)  # float16: left out where its scale was too large
            scaler.update()
            if mixed and scaler.get_scale() < 1:  # no scale is small enough
                return False
        return True

    def _roll_back(self) -> None:
        self._rollbacks_in_a_row += 1
        if self._rollbacks_in_a_row > MAX_ROLLBACKS:
            raise TrainingError(
                f"the gradients were not finite {self._rollbacks_in_a_row} times since the "
                "last checkpoint: try a lower --learning-rate, --clip 0.5 or --precision fp32"
            )
        failed, rollbacks = self.step, self._rollbacks + 1
        self.restore(checkpoint.load(self.checkpoint_path))
        self._rollbacks = rollbacks
        self._report.rolled_back(failed, self.step)

    def validate(self) -> None:
        """Measure PSNR on the validation folder (the main process does, the others wait)."""
        if self._group.is_main:
            psnr, images = validate(self.best_network, self._validation)
            self._report.validated(self.step, psnr, self._validation, images)
        self._group.wait()

    def save(self) -> None:
        """Write the checkpoint and the weights so far (the main process does)."""
        self._rollbacks_in_a_row = 0
        if self._group.is_main:
            checkpoint.save(self.checkpoint_path, self.state())
            save_model(self.best_network, self.model_path)
        self._group.wait()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on beside the images."""
        discriminator = self.objective.discriminator
        return {
            "recipe": self.recipe.as_dict(),
            "seed": self.options.seed,
            "step": self.step,
            "rollbacks": self._rollbacks,
            "generator": self.generator.state_dict(),
            "ema": None if self.ema is None else self.ema.network.state_dict(),
            "discriminator": None if discriminator is None else discriminator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scalers": [scaler.state_dict() for scaler in self._scalers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's content.

        Raises
        ------
        TrainingError
            It is of another recipe's networks.
        """
        discriminator = self.objective.discriminator
        if (state["discriminator"] is None) != (discriminator is None):
            raise TrainingError("the checkpoint is of another recipe: use another --out folder")
        try:
            self.generator.load_state_dict(state["generator"])
            if self.ema is not None:
                averaged = state["ema"] or state["generator"]
                self.ema.network.load_state_dict(averaged)
            if discriminator is not None:
                discriminator.load_state_dict(state["discriminator"])
            for optimizer, content in zip(self._optimizers, state["optimizers"], strict=True):
                own = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
                optimizer.load_state_dict(content)
                for group, (rate, capturable) in zip(optimizer.param_groups, own, strict=True):
                    group["lr"], group["capturable"] = rate, capturable  # of this device
            for scaler, content in zip(self._scalers, state["scalers"], strict=True):
                scaler.load_state_dict(content)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint does not fit this recipe: {first_line(error)}"
            ) from error
        if state["seed"] != self.options.seed:
            warnings.warn(
                f"the run began with seed {state['seed']} and continues with {self.options.seed}",
                stacklevel=2,
            )
        self.step, self._rollbacks = state["step"], state["rollbacks"]


@contextlib.contextmanager
def _modes_of_torch(options: RunOptions) -> Iterator[None]:
    """Settings of the whole process, until the run's end."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    flushing = bool(torch.tensor(1e-310, dtype=torch.float64) * 1 == 0)  # torch does not tell
    try:
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
        if options.device.type == "cuda":
            torch.backends.cudnn.benchmark = not options.deterministic  # sizes do not change
        if options.device.type == "cpu":
            torch.set_flush_denormal(True)  # near-zero gradients else take 100 times as long
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_flush_denormal(flushing)
        torch.backends.cudnn.benchmark = benchmark


def _seed(seed: int, rollbacks: int, step: int) -> int:
    """Of a step's random numbers: other ones after a rollback, the same after resuming."""
    return int(np.random.SeedSequence((seed, rollbacks, step)).generate_state(1, np.uint32)[0])


class _Clock:
    """Steps per second since the last question."""

    def __init__(self) -> None:
        self._start, self._steps = time.monotonic(), 0

    def count(self) -> None:
        self._steps += 1

    def steps_per_second(self) -> float:
        now = time.monotonic()
        rate = self._steps / max(1e-9, now - self._start)
        self._start, self._steps = now, 0
        return rate


class _Averages:
    """Means of the losses since they were last taken, without waiting for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            total = self._sums.get(name)
            self._sums[name] = value if total is None else total + value
        self._count += 1

    def take(self) -> dict[str, Tensor]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means
