"""The runtimes that the benchmarks compare: ours, and every peer that is installed.

A runner is made for one network and one input size, the way each runtime is fastest: weights
packed, graphs compiled, shapes fixed. Calling it is one forward pass, numpy in, numpy out.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch

from esrgan_ext.models import SRNetwork


class Runner(ABC):
    """One runtime with one network at one size.

    Attributes
    ----------
    name : str
        As printed, and as chosen on the command line.
    needs : str or None
        The package that must be installed.
    """

    name: str
    needs: str | None = None

    @classmethod
    def installed(cls) -> bool:
        return cls.needs is None or importlib.util.find_spec(cls.needs) is not None

    @abstractmethod
    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        """Get ready for inputs of shape (1, 3, *size); `onnx` is the exported network."""

    @abstractmethod
    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Upscale x of shape (1, 3, H, W), float32."""


class Ours(Runner):
    """The whole network inside the compiled extension (pure torch where there is none)."""

    name = "esrgan_ext"

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = network

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self._network(torch.from_numpy(x)).numpy()


class TorchPlain(Runner):
    """The definition in torch, N,C,H,W in memory too."""

    name = "torch"
    memory_format = torch.contiguous_format

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        torch.set_num_threads(threads)
        clone = type(network)(network.config).eval().requires_grad_(False)  # type: ignore[call-arg]
        clone.load_state_dict(network.state_dict())
        self._run = clone.to(memory_format=self.memory_format).plain_forward  # type: ignore[call-overload]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            t = torch.from_numpy(x).contiguous(memory_format=self.memory_format)
            return self._run(t).numpy()


class TorchChannelsLast(TorchPlain):
    """The definition in torch, channels-last."""

    name = "torch-channels-last"
    memory_format = torch.channels_last


class TorchCompile(TorchChannelsLast):
    """The definition under torch.compile (Inductor), channels-last."""

    name = "torch-compile"

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        super().__init__(network, onnx, size, threads)
        self._run = torch.compile(self._run, dynamic=False)


class OnnxRuntime(Runner):
    """ONNX Runtime's CPU provider, all graph optimisations."""

    name = "onnxruntime"
    needs = "onnxruntime"

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(onnx), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: x})[0]


class OpenVINO(Runner):
    """OpenVINO's CPU plugin in fp32, shape fixed, tuned for latency."""

    name = "openvino"
    needs = "openvino"

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(onnx)
        model.reshape([1, 3, *size])
        self._model = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._model(x)[0]


class Ncnn(Runner):
    """ncnn in fp32 with its own Winograd and packed layouts; for models that are ncnn files."""

    name = "ncnn"
    needs = "ncnn"

    def __init__(self, network: SRNetwork, onnx: Path, size: tuple[int, int], threads: int) -> None:
        import ncnn

        path = network.info.path  # type: ignore[union-attr]
        if path is None or path.suffix != ".param":
            raise ValueError("ncnn runs models that are ncnn files")
        self._ncnn = ncnn
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(self._net.opt, option, False)
        self._net.opt.use_bf16_storage = False
        self._net.load_param(str(path))
        self._net.load_model(str(path.with_suffix(".bin")))
        self._ends = self._net.input_names()[0], self._net.output_names()[0]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        extractor = self._net.create_extractor()
        extractor.input(self._ends[0], self._ncnn.Mat(x[0]))
        _, out = extractor.extract(self._ends[1])
        return np.array(out)[None]


RUNNERS: dict[str, type[Runner]] = {
    runner.name: runner
    for runner in (
        Ours,
        TorchPlain,
        TorchChannelsLast,
        TorchCompile,
        OnnxRuntime,
        OpenVINO,
        Ncnn,
    )
}
