"""Builds the compiled extension when torch can be imported; metadata is in pyproject.toml.

Without torch (an isolated build) or where compiling fails, the package is installed without it
and `esrgan_ext.ops.build.library` compiles on first use: so csrc/ travels inside the package. The
CUDA operators are built where torch has CUDA, nvcc is there, and TORCH_CUDA_ARCH_LIST or a GPU in
this machine says for what.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

CSRC = Path("csrc")  # setuptools wants paths relative to this file's folder
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


def extensions() -> dict:
    """Arguments of `setup` that compile the extension, or none without torch."""
    commands = {"build_py": BuildPyWithSources, "sdist": SdistWithSources}
    try:
        import torch  # noqa: F401
    except ImportError:
        return {"cmdclass": commands}
    tools = toolchain()
    cuda = cuda_extension(tools)
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class BuildIfPossible(BuildExtension):
        """A machine without a compiler still gets the package, without nvcc the CPU operators."""

        def run(self) -> None:
            cpu_only = [e for e in self.extensions if e.name == "esrgan_ext._C"]
            for attempt in (self.extensions, cpu_only):
                self.extensions = attempt
                try:
                    super().run()
                except Exception as error:
                    names = " and ".join(e.name for e in attempt)
                    self.warn(f"{names} not built ({error}); compiled on first use")
                    if len(attempt) == 1:
                        break
                else:
                    return
            self.extensions = []

    sources = [str(p) for p in tools.cpu_sources(CSRC)]
    cpu = CppExtension(
        "esrgan_ext._C", sources, extra_compile_args=[*tools.CXX_FLAGS, "-g0"], optional=True
    )
    return {
        "cmdclass": {**commands, "build_ext": BuildIfPossible},
        "ext_modules": [cpu, *cuda],
    }


if __name__ == "__main__":
    setup(**extensions())
