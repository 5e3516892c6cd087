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
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

CSRC = Path("csrc")  # setuptools wants paths relative to this file's folder
CPU_NAME = "esrgan_ext.esrgan_cpu"  # stands for the library, which is no Python module
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


def cuda_extension(tools: ModuleType) -> list:
    """The extension with the CUDA operators, or nothing where it cannot be built ahead of time."""
    import torch

    if torch.version.cuda is None:
        return []
    wanted = os.environ.get("TORCH_CUDA_ARCH_LIST")
    try:
        toolkit = tools.find_toolkit(torch.version.cuda)
        if wanted:
            architectures = tools.parse_architectures(wanted)
        elif torch.cuda.is_available():
            devices = range(torch.cuda.device_count())
            capabilities = [torch.cuda.get_device_capability(k) for k in devices]
            architectures = tools.architectures_for(capabilities, toolkit.architectures)
        else:
            return []
    except tools.BuildError as error:
        print(f"the CUDA operators are not built: {error}", file=sys.stderr)
        return []
    os.environ["CUDA_HOME"] = str(toolkit.home)  # read when cpp_extension is imported
    from torch.utils.cpp_extension import CUDAExtension

    cxx, nvcc = tools.cuda_flags(architectures)
    return [
        CUDAExtension(
            "esrgan_ext._C_cuda",
            [str(p) for p in tools.cuda_sources(CSRC)],
            extra_compile_args={"cxx": [*cxx, "-g0"], "nvcc": nvcc},
            optional=True,
        )
    ]


class BuildCpuLibrary(build_ext):
    """Compiles the CPU kernels into the package: they need a compiler, but neither torch nor
    Python's headers. A machine without a compiler still gets the package."""

    def run(self) -> None:
        cpu = [e for e in self.extensions if e.name == CPU_NAME]
        self.extensions = [e for e in self.extensions if e.name != CPU_NAME]
        if cpu:
            self.compile_cpu()
        if self.extensions:
            try:
                super().run()
            except Exception as error:
                self.warn(f"the CUDA operators are not built ({error}); compiled on first use")

    def compile_cpu(self) -> None:
        tools = toolchain()
        package = Path("." if self.inplace else self.build_lib) / "esrgan_ext"
        package.mkdir(parents=True, exist_ok=True)
        try:
            tools.compile_cpu(CSRC, package / tools.CPU_LIBRARY, Path(self.build_temp) / "cpu")
        except tools.BuildError as error:
            if os.environ.get("ESRGAN_REQUIRE_CPU_LIBRARY"):
                raise
            self.warn(f"the CPU kernels are not built ({error}); compiled on first use")

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
    commands: dict = {
        "build_py": BuildPyWithSources,
        "sdist": SdistWithSources,
        "bdist_wheel": WheelForAnyPython,
    }
    cuda = []
    build: type[build_ext] = BuildCpuLibrary
    if importlib.util.find_spec("torch") is not None:
        cuda = cuda_extension(toolchain())
    if cuda:
        from torch.utils.cpp_extension import BuildExtension

        build = type("BuildBoth", (BuildCpuLibrary, BuildExtension), {})
    return {
        "cmdclass": {**commands, "build_ext": build},
        "ext_modules": [Extension(CPU_NAME, []), *cuda],
    }


if __name__ == "__main__":
    setup(**extensions())
