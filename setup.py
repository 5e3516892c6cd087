"""Builds the compiled extension when torch can be imported; metadata is in pyproject.toml.

Without torch (an isolated build) or where compiling fails, the package is installed without it
and `esrgan_ext.ops.extension` compiles on first use: so csrc/ travels inside the package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

CSRC = Path("csrc")  # setuptools wants paths relative to this file's folder


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


def extension() -> dict:
    """Arguments of `setup` that compile the extension, or none without torch."""
    commands = {"build_py": BuildPyWithSources, "sdist": SdistWithSources}
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        return {"cmdclass": commands}

    class BuildIfPossible(BuildExtension):
        """A machine without a compiler still gets the package."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                self.warn(f"the extension was not built ({error}); it is compiled on first use")
                self.extensions = []

    sources = sorted(str(p) for p in [*CSRC.glob("*.cpp"), *(CSRC / "cpu").glob("*.cpp")])
    flags = ["-O3", "-DNDEBUG", "-g0"]
    return {
        "cmdclass": {**commands, "build_ext": BuildIfPossible},
        "ext_modules": [CppExtension("esrgan_ext._C", sources, extra_compile_args=flags)],
    }


setup(**extension())
