"""Builds the compiled kernels; metadata is in pyproject.toml.

The CPU kernels are built where there is a C++ compiler, with or without torch. Where compiling
fails, the package is installed without them and `esrgan_ext.ops.build.library` compiles on first
use: so csrc/ travels inside the package. The CUDA operators are built where torch has CUDA, nvcc is
there, and TORCH_CUDA_ARCH_LIST or a GPU in this machine says for what.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

CSRC = Path("csrc")  # setuptools wants paths relative to this file's folder
CPU_NAME = "esrgan_ext.esrgan_cpu"  # stands for the library, which is no Python module
CUDA_NAME = "esrgan_ext._C_cuda"
TOOLCHAIN = Path("esrgan_ext") / "ops" / "build" / "toolchain.py"


class BuildPyWithSources(build_py):
    """Copies csrc/ into the package, for compiling on first use."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "esrgan_ext" / "csrc"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(CSRC, target)


class SdistWithSources(sdist):
    """Adds csrc/ to the source distribution."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        shutil.copytree(CSRC, Path(base_dir) / "csrc", dirs_exist_ok=True)


def toolchain() -> ModuleType:
    """`esrgan_ext.ops.build.toolchain`, loaded by itself: the package would need torch."""
    spec = importlib.util.spec_from_file_location("esrgan_ext_toolchain", TOOLCHAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def cuda_target(tools: ModuleType) -> tuple | None:
    """The toolkit and the architectures to build the CUDA operators with and for, or None."""
    import torch

    if torch.version.cuda is None:
        return None
    wanted = os.environ.get("TORCH_CUDA_ARCH_LIST")
    try:
        toolkit = tools.find_toolkit(torch.version.cuda)
        if wanted:
            return toolkit, tools.parse_architectures(wanted)
        if not torch.cuda.is_available():
            return None
        devices = range(torch.cuda.device_count())
        capabilities = [torch.cuda.get_device_capability(k) for k in devices]
        return toolkit, tools.architectures_for(capabilities, toolkit.architectures)
    except tools.BuildError as error:
        print(f"the CUDA operators are not built: {error}", file=sys.stderr)
        return None


class BuildKernels(build_ext):
    """Compiles the CPU kernels into the package: they need a compiler, but neither torch nor
    Python's headers; and the CUDA operators where `cuda_target` says so. A machine without a
    compiler still gets the package."""

    def run(self) -> None:
        tools = toolchain()
        package = Path("." if self.inplace else self.build_lib) / "esrgan_ext"
        package.mkdir(parents=True, exist_ok=True)
        names = [extension.name for extension in self.extensions]
        if CPU_NAME in names:
            self.compile_cpu(tools, package)
        if CUDA_NAME in names:
            self.compile_cuda(tools, package)

    def compile_cpu(self, tools: ModuleType, package: Path) -> None:
        try:
            tools.compile_cpu(CSRC, package / tools.CPU_LIBRARY, Path(self.build_temp) / "cpu")
        except tools.BuildError as error:
            if os.environ.get("ESRGAN_REQUIRE_CPU_LIBRARY"):
                raise
            self.warn(f"the CPU kernels are not built ({error}); compiled on first use")

    def compile_cuda(self, tools: ModuleType, package: Path) -> None:
        import torch

        target = cuda_target(tools)
        if target is None:
            return
        toolkit, architectures = target
        module = CUDA_NAME.rpartition(".")[2]
        try:
            tools.compile_cuda(
                CSRC,
                package / f"{module}{sysconfig.get_config_var('EXT_SUFFIX')}",
                Path(self.build_temp) / "cuda",
                module=module,
                toolkit=toolkit,
                architectures=architectures,
                torch=Path(torch.__file__).parent,
            )
        except tools.BuildError as error:
            self.warn(f"the CUDA operators are not built ({error}); compiled on first use")

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class WheelForAnyPython(bdist_wheel):
    """The CPU kernels serve every version of Python 3; the CUDA operators are made for one."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        if any(e.name != CPU_NAME for e in self.distribution.ext_modules or []):
            return python, abi, platform
        return "py3", "none", platform


def extensions() -> dict:
    """Arguments of `setup` that compile the CPU kernels, and the CUDA operators where torch is."""
    names = [CPU_NAME]
    if importlib.util.find_spec("torch") is not None and cuda_target(toolchain()) is not None:
        names.append(CUDA_NAME)
    return {
        "cmdclass": {
            "build_py": BuildPyWithSources,
            "sdist": SdistWithSources,
            "bdist_wheel": WheelForAnyPython,
            "build_ext": BuildKernels,
        },
        "ext_modules": [Extension(name, []) for name in names],
    }


if __name__ == "__main__":
    setup(**extensions())
