"""Finding and building the CUDA operators on machines with a GPU, which these are only in name."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esrgan_ext import ops
from esrgan_ext.ops import cuda
from esrgan_ext.ops.build import jit, selfcheck, toolchain
from esrgan_ext.ops.build import library as extension
from esrgan_ext.ops.cpu import NetworkShape
from tests.ops.fake_cuda import make_nvcc, pretend_devices

pytestmark = pytest.mark.skipif(
    extension.source_folder() is None or extension.load() is None, reason="no compiled extension"
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a new process, with an empty cache and a toolkit in `tmp_path / "toolkit"`."""
    monkeypatch.setattr(extension, "_cuda_result", None)
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    monkeypatch.delenv("ESRGAN_EXT", raising=False)


@pytest.fixture
def compilation(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The calls of the compilation, which then gives a module without building anything."""
    calls: list[dict] = []

    def compile_cuda(csrc: Path, library: Path, folder: Path, **arguments: object) -> None:
        calls.append({**arguments, "csrc": csrc})
        library.write_bytes(b"")

    monkeypatch.setattr(toolchain, "compile_cuda", compile_cuda)
    monkeypatch.setattr(
        jit,
        "_import",
        lambda name, library: SimpleNamespace(file=library, paths=lambda *_: ["mma"]),
    )
    return calls


def test_no_cuda_is_no_reason_to_warn(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extension.load_cuda() is None
    assert "CUDA" in extension.cuda_origin()
    monkeypatch.setattr(extension, "_cuda_result", None)
    pretend_devices(monkeypatch)  # CUDA in torch, but no device
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extension.load_cuda() is None
    assert extension.cuda_origin() == "torch finds no CUDA device"


def test_sources_and_flags_are_for_the_devices_present(monkeypatch, tmp_path, compilation, capfd):
    make_nvcc(tmp_path / "toolkit")
    pretend_devices(monkeypatch, (8, 6), (9, 0), (7, 5))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")  # what containers come with
    assert extension.load_cuda() is not None
    assert extension.cuda_origin() == "JIT"
    (call,) = compilation
    assert call["module"] == "esrgan_ext_C_cuda"
    assert call["toolkit"].home == tmp_path / "toolkit"
    assert call["architectures"] == ("86", "90a")
    assert call["csrc"] == extension.source_folder()
    assert "compiling the CUDA kernels for 86, 90a" in capfd.readouterr().err


def test_the_key_depends_on_devices_nvcc_torch_and_the_sources_of_its_own_library(
    monkeypatch, tmp_path
):
    make_nvcc(tmp_path / "toolkit")
    csrc = tmp_path / "csrc"
    shutil.copytree(extension.source_folder(), csrc)

    def key(cuda_version: str = "13.0", capability: tuple[int, int] = (8, 0)) -> str:
        return jit.cuda_build(csrc, cuda_version, [capability]).key

    keys = [key(capability=(9, 0)), key("13.1"), key()]
    cpu = jit.cpu_key(csrc)
    for name in ("cuda/network.h", "torch/cuda_ops.cpp", "cpu/network.h"):
        with (csrc / name).open("a") as file:
            file.write("\n// changed\n")
        of_cuda = "cuda" in name
        now = key()
        assert (now not in keys) == of_cuda
        if of_cuda:
            keys.append(now)
        assert (jit.cpu_key(csrc) == cpu) == of_cuda
        cpu = jit.cpu_key(csrc)
    shutil.rmtree(tmp_path / "toolkit")
    make_nvcc(tmp_path / "toolkit", version="13.1")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_a_finished_build_is_not_made_again(monkeypatch, tmp_path, compilation):
    make_nvcc(tmp_path / "toolkit")
    pretend_devices(monkeypatch, (8, 0))
    extension.load_cuda()
    monkeypatch.setattr(extension, "_cuda_result", None)
    module = extension.load_cuda()
    assert len(compilation) == 1
    assert module.file.name == "esrgan_ext_C_cuda.so"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda home: None, "no nvcc|is of CUDA|does not work"),
        (lambda home: make_nvcc(home, version="12.8"), r"is of CUDA 12\.8"),
    ],
)
def test_without_an_nvcc_that_fits_the_cpu_stays_compiled(monkeypatch, tmp_path, prepare, reason):
    prepare(tmp_path / "toolkit")
    monkeypatch.setattr(shutil, "which", _without_nvcc(shutil.which))
    monkeypatch.setattr(toolchain, "_USUAL_PLACE", tmp_path / "none")
    pretend_devices(monkeypatch, (8, 0))
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        extension.load_cuda()
    assert len(caught) == 1
    assert extension.load_cuda() is None
    assert ops.backend("cpu").startswith("cpu-")
    assert ops.backend("cuda") == "reference"


def _without_nvcc(which):
    return lambda name: None if name == "nvcc" else which(name)


def test_old_devices_run_plain_torch(monkeypatch, tmp_path, compilation):
    make_nvcc(tmp_path / "toolkit")
    pretend_devices(monkeypatch, (7, 5))
    with pytest.warns(RuntimeWarning, match=r"capability 8\.0 or later.*7\.5"):
        extension.load_cuda()
    assert not compilation


def test_switched_off_alone(monkeypatch, tmp_path, compilation):
    make_nvcc(tmp_path / "toolkit")
    pretend_devices(monkeypatch, (8, 0))
    monkeypatch.setenv("ESRGAN_EXT", "cpu")
    assert extension.load_cuda() is None
    assert extension.load() is not None
    assert not compilation


def test_sources_that_nvcc_refuses_leave_the_cpu_compiled_and_one_warning(monkeypatch, tmp_path):
    home = tmp_path / "toolkit"
    make_nvcc(home, action="echo 'error: expected a kernel' >&2; exit 1")
    kernels = [p for p in toolchain.cuda_sources(extension.source_folder()) if p.suffix == ".cu"]
    monkeypatch.setattr(toolchain, "cuda_sources", lambda csrc: kernels)
    pretend_devices(monkeypatch, (9, 0))
    with pytest.warns(RuntimeWarning, match="plain PyTorch on the GPU") as caught:
        assert extension.load_cuda() is None
    assert len(caught) == 1
    assert "error: expected a kernel" in extension.cuda_origin()
    calls = (home / "calls").read_text().splitlines()
    assert calls
    assert all("-gencode=arch=compute_90a,code=sm_90a" in call for call in calls)
    compiled = {Path(word).name for call in calls for word in call.split() if word.endswith(".cu")}
    assert compiled <= {path.name for path in kernels}
    assert ops.backend("cpu").startswith("cpu-")
    # The next start tries again: nothing half-made counts as a build.
    (build,) = (tmp_path / "cache" / "extension").iterdir()
    assert not (build / "finished").exists()


@pytest.mark.parametrize(
    ("library", "capabilities", "found"),
    [
        ("80,90a", [(8, 6), (9, 0)], True),
        ("80,90a", [(8, 0), (12, 0)], False),  # no code for one of them: compiled anew instead
        ("80,90a", [(7, 5), (8, 0)], True),
        ("80,90+PTX", [(12, 0)], True),
    ],
)
def test_what_was_built_ahead_of_time_must_cover_the_devices(
    monkeypatch, tmp_path, library, capabilities, found
):
    built = tmp_path / "_C_cuda.so"
    built.write_bytes(b"esrgan_ext-cuda-architectures:(" + library.encode() + b");")
    module = SimpleNamespace()
    monkeypatch.setattr(
        extension.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(built))
    )
    monkeypatch.setattr(extension.importlib, "import_module", lambda name: module)
    assert (extension._prebuilt_cuda(capabilities) is module) == found


def test_the_runtime_of_pips_packages_is_found_for_the_linker(tmp_path):
    """Those have lib/libcudart.so.13 and nothing else by that name."""
    nvcc = make_nvcc(tmp_path / "cu13")
    (tmp_path / "cu13" / "lib").mkdir()
    library = tmp_path / "cu13" / "lib" / "libcudart.so.13"
    library.write_bytes(b"")
    toolkit = toolchain.CudaToolkit(nvcc, tmp_path / "cu13", (13, 0), ("80",))
    build = tmp_path / "build"
    build.mkdir()
    assert toolchain._cudart_folders(toolkit, build) == [f"-L{build}"]
    assert (build / "libcudart.so").resolve() == library
    (tmp_path / "cu13" / "lib" / "libcudart.so").write_bytes(b"")
    assert toolchain._cudart_folders(toolkit, build) == [f"-L{tmp_path / 'cu13' / 'lib'}"]


class Kernels(SimpleNamespace):
    """The module of the CUDA operators, as far as Python sees it."""

    def paths(self, device: int, compute: str, nf: int = 64, gc: int = 32) -> list[str]:
        return [] if (device, compute) == (1, "tf32") else ["mma"]

    def unsupported(self, shape: list[int]) -> str:
        return "" if shape[2] in (32, 64) else "nf must be 32 or 64"

    def workspace_bytes(self, shape, compute, device, batch, height, width) -> int:
        return 100 * height * width


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices with kernels and one that is too old, all trusted."""
    pretend_devices(monkeypatch, (9, 0), (8, 0), (7, 5))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(extension, "load_cuda", lambda: Kernels())
    monkeypatch.setattr(selfcheck, "trusted", lambda device, dtype: dtype != torch.bfloat16)


@pytest.mark.usefixtures("kernels")
class TestWhatRunsWhere:
    SHAPE = NetworkShape(3, 3, 64, 32, 23, 2)

    def test_device_precision_and_widths_decide(self):
        first, second, old = (torch.device("cuda", k) for k in range(3))
        assert cuda.supports(self.SHAPE, first, torch.float16)
        assert cuda.supports(self.SHAPE, torch.device("cuda"), torch.float16)
        assert not cuda.supports(self.SHAPE, old, torch.float16)
        assert not cuda.supports(self.SHAPE, first, torch.float64)
        assert not cuda.supports(self.SHAPE, first, torch.bfloat16), "failed its self-check"
        assert not cuda.supports(NetworkShape(3, 3, 48, 32, 23, 2), first, torch.float16)
        assert cuda.supports(self.SHAPE, second, torch.float16)
        assert not cuda.supports(self.SHAPE, torch.device("cpu"), torch.float32)

    def test_float32_means_tf32_where_torch_is_allowed_to(self, monkeypatch):
        second = torch.device("cuda", 1)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        assert cuda.compute_name(torch.float32) == "tf32"
        assert not cuda.supports(self.SHAPE, second, torch.float32)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        assert cuda.compute_name(torch.float32) == "float32"
        assert cuda.supports(self.SHAPE, second, torch.float32)

    def test_backend_is_named_by_device(self):
        assert ops.backend("cuda") == ops.backend("cuda:1") == "cuda"
        assert ops.backend("cuda:2") == "reference"
        assert ops.backend("cuda:0", torch.bfloat16) == "reference"
        assert ops.backend().startswith("cpu-")

    def test_memory_is_scratch_and_float32_pixels(self):
        got = cuda.working_bytes(self.SHAPE, torch.device("cuda", 0), torch.float16, 10, 20)
        assert got == 200 * (100 + 4 * (3 + 16 * 3))


class TestPackedWeights:
    """On the CPU's operator, which packs just as well."""

    def make(self) -> tuple[NetworkShape, list[torch.Tensor], list[torch.Tensor]]:
        shape = NetworkShape(3, 3, 32, 16, 1, 0)
        weights, biases = selfcheck._parameters(shape.as_list())
        return shape, weights, biases

    def test_are_made_once_and_again_after_a_change(self):
        shape, weights, biases = self.make()
        packed = cuda.PackedWeights()
        first = packed.get(shape, weights, biases, "float32")
        assert packed.get(shape, weights, biases, "float32") is first
        weights[3].add_(1)
        second = packed.get(shape, weights, biases, "float32")
        assert second is not first
        weights[3] = weights[3].clone()
        assert packed.get(shape, weights, biases, "float32") is not second

    def test_of_inference_tensors_see_changes_too(self):
        shape, weights, biases = self.make()
        with torch.inference_mode():
            weights = [w.clone() for w in weights]
            packed = cuda.PackedWeights()
            first = packed.get(shape, weights, biases, "float32")
            assert packed.get(shape, weights, biases, "float32") is first
            weights[3].mul_(2)
            assert packed.get(shape, weights, biases, "float32") is not first


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.timeout(900)
def test_any_character_in_the_paths_of_sources_cache_and_toolkit(monkeypatch, tmp_path):
    """By a real nvcc, against the headers and libraries of torch, with a CUDA of its own or not."""
    folder = tmp_path / 'my esrgan\'s $HOME für "alles"; `x`'
    monkeypatch.delenv("CUDA_HOME")
    usual = toolchain.find_toolkit("13.0")

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)

    home = folder / "toolkit"
    shutil.copytree(usual.home, home, symlinks=True, copy_function=link)
    monkeypatch.setenv("CUDA_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(folder / "cache"))
    csrc = folder / "csrc"
    shutil.copytree(extension.source_folder(), csrc)
    for source in toolchain.cuda_sources(csrc):
        if source.name not in ("network.cu", "cuda_bindings.cpp"):  # others say nothing more
            source.unlink()
    if torch.version.cuda is None:  # has neither these libraries nor a header of definitions
        monkeypatch.setattr(toolchain, "TORCH_LIBRARIES", ["c10", "torch_cpu", "torch_python"])
    build = jit.cuda_build(csrc, "13.0", [(8, 0), (9, 0)])
    assert build.toolkit.home == home
    monkeypatch.setattr(jit, "_import", lambda name, library: library)
    library = jit.built_cuda(build)
    assert toolchain.architectures_in(library) == ("80", "90a")
    # The kernels' machine code for both, and the runtime that they are linked with.
    content = library.read_bytes()
    assert all(name in content for name in (b"sm_80", b"sm_90a", b"libcudart.so.13"))


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no CUDA")
def test_the_real_sources_build_and_load(monkeypatch, tmp_path):
    """With a torch that has CUDA, on a machine with or without a GPU: everything but a launch."""
    try:
        build = jit.cuda_build(extension.source_folder(), torch.version.cuda, [(8, 0)])
    except toolchain.BuildError as error:
        pytest.skip(str(error))
    module = jit.built_cuda(build)
    assert module.build_info()["architectures"] == "80"
    assert toolchain.architectures_in(Path(module.__file__)) == ("80",)
    for name in ("dense_block", "rrdbnet_pack", "rrdbnet", "rrdbnet_into"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"esrgan_ext::{name}", "CUDA")
    assert module.unsupported([3, 3, 64, 32, 23, 2]) == ""
    assert module.unsupported([3, 3, 48, 32, 23, 2])
