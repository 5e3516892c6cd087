"""Steps on one device without waiting for it: on a GPU, all of a step in one CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esrgan_ext.errors import first_line

#: Steps done one by one before one is captured: cuDNN chooses its algorithms, Adam makes its state.
FIRST_STEPS = 4


@dataclass(frozen=True, eq=False)
class Gradients:
    """Result of a step: the losses by name, and each network's gradient norm."""

    losses: dict[str, Tensor]
    norms: list[Tensor]


class ResidentSteps:
    """Repeats a step whose data, gradients and updates never leave the device.

    A step that finds a gradient that is not finite changes no weight; `failed` tells later.

    Parameters
    ----------
    compute : callable
        Draws a batch and leaves the gradients in the optimizers' parameters.
    optimizers : list of Adam
        Fused; on a GPU capturable, with their rates as tensors.
    averages : list of (Tensor, Tensor)
        Trained tensors and their moving averages.
    device : torch.device
    say : callable
        Told once, in a line, if a graph cannot be had and steps go on one by one.
    """

    def __init__(
        self,
        compute: Callable[[], Gradients],
        optimizers: list[torch.optim.Adam],
        averages: list[tuple[Tensor, Tensor]],
        device: torch.device,
        say: Callable[[str], object],
    ) -> None:
        self._compute, self._optimizers, self._say = compute, optimizers, say
        self._device = device
        self._trained = [trained for trained, _ in averages]
        self._averages = [average for _, average in averages]
        self._taken_in = torch.zeros((), device=device)
        self._bad = torch.zeros((), device=device)
        self._sums: dict[str, Tensor] = {}
        self._norm = torch.zeros((), device=device)
        self._since_taken = self._done = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._one_by_one = device.type != "cuda"
        self._stream: torch.cuda.Stream | None = None
        if not self._one_by_one:
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))  # images, weights

    @property
    def captured(self) -> bool:
        """Whether steps are replayed from a graph."""
        return self._graph is not None

    def advance(self, seed: int, rate: float, decay: float) -> None:
        """One more step.

        Parameters
        ----------
        seed : int
            Seed of all random numbers of this step.
        rate : float
            The optimizers' learning rate.
        decay : float
            Share of the moving average that stays.
        """
        with self._on_stream():
            if self._device.type == "cuda":
                torch.cuda.manual_seed(seed)
            else:
                torch.default_generator.manual_seed(seed)
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    if isinstance(group["lr"], Tensor):
                        group["lr"].fill_(rate)
                    else:
                        group["lr"] = rate
            self._taken_in.fill_(1 - decay)
            if self._graph is None and not self._one_by_one and self._done >= FIRST_STEPS:
                self._capture(seed)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._step()
        self._done += 1
        self._since_taken += 1

    def _capture(self, seed: int) -> None:
        assert self._stream is not None
        graph = torch.cuda.CUDAGraph()
        self._stream.synchronize()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._step()
        except RuntimeError as error:
            self._one_by_one = True
            self._say(f"no CUDA graph, steps one by one: {first_line(error)}")
            torch.cuda.synchronize(self._device)
            torch.cuda.manual_seed(seed)
        else:
            self._graph = graph

    def _step(self) -> None:
        gradients = self._compute()
        finite = torch.isfinite(torch.stack(gradients.norms)).all()
        bad = (~finite).to(torch.float32)
        for optimizer in self._optimizers:
            optimizer.found_inf = bad  # type: ignore[attr-defined]  # fused: no update then
            optimizer.step()
        with torch.no_grad():
            if self._averages:
                change = torch._foreach_sub(self._trained, self._averages)
                torch._foreach_mul_(change, self._taken_in)
                torch._foreach_add_(self._averages, change)
            self._bad.add_(bad)
            self._norm.copy_(gradients.norms[0])
            for name, value in gradients.losses.items():
                if name not in self._sums:
                    self._sums[name] = torch.zeros((), device=self._device)
                self._sums[name].add_(value)

    def _on_stream(self) -> contextlib.AbstractContextManager[object]:
        if self._stream is None:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._stream)  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Until all steps are done."""
        if self._stream is not None:
            self._stream.synchronize()

    def failed(self) -> bool:
        """Whether a gradient was not finite since the start; waits for the device."""
        self.wait()
        return bool(self._bad.item())

    def take(self) -> tuple[dict[str, Tensor], Tensor]:
        """Mean losses since the last question and the latest gradient norm; waits."""
        self.wait()
        count = max(1, self._since_taken)
        means = {name: (total / count).cpu() for name, total in self._sums.items()}
        for total in self._sums.values():
            total.zero_()
        self._since_taken = 0
        return means, self._norm.cpu()


@contextlib.contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Leave the process's random generators as they were found."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def paired(network: nn.Module, average: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Parameters and buffers of floats of a network with those of its average."""
    trained = [*network.parameters(), *network.buffers()]
    averages = [*average.parameters(), *average.buffers()]
    return [(t, a) for t, a in zip(trained, averages, strict=True) if t.is_floating_point()]
