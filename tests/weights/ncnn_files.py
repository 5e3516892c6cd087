"""Writes an RRDBNet as ncnn `.param` and `.bin`, the way converters do, for the reader's tests.

Independent of the reader: the graph is written down from the network's definition, and a test
has the ncnn runtime itself run what is written here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from esrgan_ext.models import RRDBNet

FP16_FLAG = 0x01306B47


@dataclass
class GraphWriter:
    """Collects layers that have one output each; splits are added when it is written."""

    fused: bool
    fp16: bool
    layers: list[tuple[str, list[str], str]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add(self, kind: str, inputs: list[str], params: str) -> str:
        self.layers.append((kind, list(inputs), params))
        return f"blob{len(self.layers) - 1}"

    def conv(self, blob: str, layer: object, activated: bool = False) -> str:
        weight = layer.weight.detach().numpy()  # type: ignore[attr-defined]
        if self.fp16:
            half = weight.astype("<f2").tobytes()
            self.data += FP16_FLAG.to_bytes(4, "little") + half + bytes(-len(half) % 4)
        else:
            self.data += bytes(4) + weight.astype("<f4").tobytes()
        self.data += layer.bias.detach().numpy().astype("<f4").tobytes()  # type: ignore[attr-defined]
        params = f"0={weight.shape[0]} 1=3 4=1 5=1 6={weight.size}"
        if activated and self.fused:
            return self.add("Convolution", [blob], f"{params} 9=2 -23310=1,2.000000e-01")
        blob = self.add("Convolution", [blob], params)
        return self.add("ReLU", [blob], "0=2.000000e-01") if activated else blob

    def scaled_sum(self, blob: str, other: str) -> str:
        """0.2 * blob + other"""
        if self.fused:
            return self.add("Eltwise", [blob, other], "0=1 -23301=2,2.000000e-01,1.000000e+00")
        scaled = self.add("BinaryOp", [blob], "0=2 1=1 2=2.000000e-01")
        return self.add("BinaryOp", [scaled, other], "0=0")

    def text(self) -> str:
        uses = Counter(blob for _, inputs, _ in self.layers for blob in inputs)
        lines, blobs = [], 0
        taken: Counter[str] = Counter()
        for index, (kind, inputs, params) in enumerate(self.layers):
            names = []
            for blob in inputs:
                names.append(f"{blob}_split_{taken[blob]}" if uses[blob] > 1 else blob)
                taken[blob] += 1
            # The last layer's blob is what callers extract.
            output = "output" if index == len(self.layers) - 1 else f"blob{index}"
            words = [kind, f"layer{index}", str(len(names)), "1", *names, output, params]
            lines.append(" ".join(words).rstrip())
            blobs += 1
            if uses[output] > 1:
                copies = [f"{output}_split_{k}" for k in range(uses[output])]
                lines.append(
                    " ".join(["Split", f"split{index}", "1", str(len(copies)), output, *copies])
                )
                blobs += len(copies)
        return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""])


def write_ncnn(
    network: RRDBNet, folder: Path, *, fp16: bool = False, fused: bool = True
) -> tuple[Path, Path]:
    """Write the two files; returns their paths. The input blob is blob0, the output `output`."""
    graph = GraphWriter(fused, fp16)
    x = graph.add("Input", [], "")
    if network.config.unshuffle > 1:
        x = graph.add("Reorg", [x], f"0={network.config.unshuffle}")
    first = x = graph.conv(x, network.conv_first)
    for block in network.body:
        entry = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):  # type: ignore[union-attr]
            parts = [x]
            for conv in (dense.conv1, dense.conv2, dense.conv3, dense.conv4):  # type: ignore[union-attr]
                joined = graph.add("Concat", parts, "0=0") if len(parts) > 1 else x
                parts.append(graph.conv(joined, conv, activated=True))
            x = graph.scaled_sum(graph.conv(graph.add("Concat", parts, ""), dense.conv5), x)  # type: ignore[union-attr]
        x = graph.scaled_sum(x, entry)
    x = graph.add("BinaryOp", [first, graph.conv(x, network.conv_body)], "")
    for up in network.upsampling_convolutions():
        x = graph.add("Interp", [x], "0=1 1=2.000000e+00 2=2.000000e+00")
        x = graph.conv(x, up, activated=True)
    x = graph.conv(x, network.conv_hr, activated=True)
    graph.conv(x, network.conv_last)
    param, binary = folder / "net.param", folder / "net.bin"
    param.write_text(graph.text(), encoding="ascii")
    binary.write_bytes(bytes(graph.data))
    return param, binary


def run_ncnn(param: Path, image: np.ndarray, *, input_blob: str = "blob0") -> np.ndarray:
    """Output of the ncnn runtime for a float32 image of shape (C, H, W), in full precision."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 2
    for option in (
        "use_fp16_packed",
        "use_fp16_storage",
        "use_fp16_arithmetic",
        "use_bf16_storage",
        "use_winograd_convolution",
    ):
        setattr(net.opt, option, False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    extractor = net.create_extractor()
    extractor.input(input_blob, ncnn.Mat(np.ascontiguousarray(image)).clone())
    status, output = extractor.extract("output")
    assert status == 0
    return np.array(output)
