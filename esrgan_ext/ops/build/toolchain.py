"""The inputs and tools of the compiled operators: sources, flags, nvcc, GPU architectures.

Compiles into the folder it is given; `jit` says when and where. Uses the standard library alone,
because setup.py loads this file by itself, before the package can be imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CXX_FLAGS = ["-O3", "-DNDEBUG"]

CPU_FLAGS = ["-std=c++17", *CXX_FLAGS, "-fPIC", "-fvisibility=hidden", "-pthread"]

# One file for every machine: libstdc++ comes along and stays hidden from other libraries. Only what
# is used of it: the rest asks for a newer glibc.
CPU_LINK_FLAGS = [
    "-shared",
    "-pthread",
    *(
        ["-static-libstdc++", "-Wl,--exclude-libs,ALL", "-Wl,--gc-sections"]
        if sys.platform == "linux"
        else []
    ),
]

CPU_LIBRARY = "esrgan_cpu.so"

NVCC_FLAGS = ["-std=c++17", *CXX_FLAGS, "-Xcompiler", "-fPIC"]

TORCH_FLAGS = ["-std=c++20", *CXX_FLAGS, "-fPIC"]
"""For what is compiled against torch's headers: the CUDA operators but not their kernels."""

TORCH_LIBRARIES = ["c10", "c10_cuda", "torch_cpu", "torch_cuda", "torch", "torch_python"]

OLDEST_CAPABILITY = (8, 0)
"""The kernels need cp.async and bfloat16 mma: Ampere or later."""

OLDEST_CUDA = (12, 6)

PIP_EXTRAS = "nvcc,nvvm,crt,cccl"

_USUAL_PLACE = Path("/usr/local/cuda")

_SOURCE_SUFFIXES = (".cpp", ".h", ".cu", ".cuh")

# As torch.utils.cpp_extension names them, without those below `OLDEST_CAPABILITY`.
_NAMED_ARCHITECTURES = {
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}


class BuildError(Exception):
    """The extension cannot be built here; the message says why."""


def _files(csrc: Path) -> list[Path]:
    return sorted(p for p in csrc.rglob("*") if p.suffix in _SOURCE_SUFFIXES)


def cpu_sources(csrc: Path) -> list[Path]:
    """The files to compile for the CPU operators, which every machine has: `csrc/cpu`."""
    return [p for p in _files(csrc / "cpu") if p.suffix == ".cpp"]


def cuda_sources(csrc: Path) -> list[Path]:
    """The files to compile for the CUDA operators: `csrc/cuda` and `csrc/torch`."""
    folders = (csrc / "cuda", csrc / "torch")
    return [p for folder in folders for p in _files(folder) if p.suffix in (".cpp", ".cu")]


def cpu_inputs(csrc: Path) -> list[Path]:
    """Every file that the CPU operators depend on, headers included."""
    return _files(csrc / "cpu")


def cuda_inputs(csrc: Path) -> list[Path]:
    """Every file that the CUDA operators may depend on."""
    return [*_files(csrc / "cuda"), *_files(csrc / "torch")]


def find_compiler() -> list[str]:
    """The C++ compiler's command: CXX, else c++.

    Raises
    ------
    BuildError
        If there is none.
    """
    text = os.environ.get("CXX", "c++")
    command = text.split()
    if shutil.which(text) is not None:  # a path, maybe with spaces in it
        command = [text]
    if not command or shutil.which(command[0]) is None:
        raise BuildError(
            f"there is no C++ compiler ({text}); install g++ (Debian, Ubuntu: "
            "apt install g++) or set CXX, and the next start compiles the kernels"
        )
    return command


def compile_cpu(csrc: Path, library: Path, folder: Path) -> None:
    """Compile the CPU operators into `library`, with objects and `log.txt` in `folder`.

    Every word reaches the compiler as it is, without a shell: paths may hold any character. The
    sources are compiled at the same time, as many as there are cores.

    Raises
    ------
    BuildError
        If there is no compiler, or it fails; the message has its first error and the log's path.
    """
    compiler = find_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    log.write_text("")

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        run_compiler([*compiler, *CPU_FLAGS, "-c", str(source), "-o", str(target)], log)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, cpu_sources(csrc)))
    partial = folder / f"{library.name}.{os.getpid()}"
    run_compiler([*compiler, *CPU_LINK_FLAGS, *map(str, objects), "-o", str(partial)], log)
    partial.replace(library)


def compile_cuda(
    csrc: Path,
    library: Path,
    folder: Path,
    *,
    module: str,
    toolkit: CudaToolkit,
    architectures: Sequence[str],
    torch: Path,
) -> None:
    """Compile the CUDA operators into `library`, with objects and `log.txt` in `folder`.

    Paths may hold any character, as in `compile_cpu`; nvcc sees none of them (`_plain_names`).

    Parameters
    ----------
    csrc, library, folder : Path
    module : str
        The name that Python imports the library by.
    toolkit : CudaToolkit
    architectures : sequence of str
        As `architectures_for` gives them.
    torch : Path
        The folder of the package torch.

    Raises
    ------
    BuildError
        As `compile_cpu`.
    """
    compiler = find_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    log.write_text("")
    includes = [
        torch / "include",
        torch / "include" / "torch" / "csrc" / "api" / "include",
        toolkit.home / "include",
        Path(sysconfig.get_paths()["include"]),
    ]
    named = [
        f"-DTORCH_EXTENSION_NAME={module}",
        f"-DESRGAN_CUDA_ARCHITECTURES={','.join(architectures)}",
    ]
    torch_side = [*TORCH_FLAGS, *named]
    for include in includes:
        torch_side += ["-isystem", str(include)]
    kernels = [*NVCC_FLAGS, *gencode_flags(architectures)]
    if "CC" in os.environ:
        kernels += ["-ccbin", os.environ["CC"]]

    with _plain_names(csrc=csrc, build=folder, toolkit=toolkit.home) as plain:
        nvcc = str(plain / "toolkit" / "bin" / "nvcc")
        environment = {**os.environ, "TMPDIR": str(plain)}

        def compile_one(source: Path) -> Path:
            target = folder / f"{source.name}.o"
            if source.suffix == ".cu":
                files = ["-c", f"csrc/{source.relative_to(csrc)}", "-o", f"build/{target.name}"]
                run_compiler([nvcc, *kernels, *files], log, cwd=plain, env=environment)
            else:
                files = ["-c", str(source), "-o", str(target)]
                run_compiler([*compiler, *torch_side, *files], log)
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, cuda_sources(csrc)))
    partial = folder / f"{library.name}.{os.getpid()}"
    folders = [f"-L{torch / 'lib'}", *_cudart_folders(toolkit, folder)]
    libraries = [f"-l{name}" for name in (*TORCH_LIBRARIES, "cudart")]
    link = ["-shared", *map(str, objects), *folders, *libraries, "-o", str(partial)]
    run_compiler([*compiler, *link], log)
    partial.replace(library)


@contextlib.contextmanager
def _plain_names(**folders: Path) -> Iterator[Path]:
    """A folder with these names in it, whose path means the same to every shell.

    nvcc starts its own compilers through a shell with every path in double quotes: spaces come
    through, a dollar sign does not, and neither does what stands in the path of nvcc itself.
    """
    usual = tempfile.gettempdir()
    within = usual if shlex.quote(usual) == usual else "/tmp"
    with tempfile.TemporaryDirectory(prefix="esrgan-", dir=within) as name:
        for link, folder in folders.items():
            (Path(name) / link).symlink_to(folder.resolve())
        yield Path(name)


def _cudart_folders(toolkit: CudaToolkit, folder: Path) -> list[str]:
    """Where the linker finds the CUDA runtime, also where only pip's packages are.

    Those have libcudart.so.13 in `lib`, but no libcudart.so: that is made in `folder`.
    """
    folders = [toolkit.home / "lib64", toolkit.home / "lib"]
    if any((place / "libcudart.so").exists() for place in folders):
        return [f"-L{place}" for place in folders if place.is_dir()]
    for place in folders:
        for library in sorted(place.glob("libcudart.so.*")):
            link = folder / "libcudart.so"
            link.unlink(missing_ok=True)
            link.symlink_to(library)
            return [f"-L{folder}"]
    return []


def run_compiler(
    command: list[str], log: Path, *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    """Run a compiler or linker and keep what it says in `log`.

    Raises
    ------
    BuildError
        If it fails.
    """
    run = subprocess.run(
        command, capture_output=True, text=True, errors="replace", cwd=cwd, env=env
    )
    with log.open("a") as file:
        file.write(" ".join(command) + "\n" + run.stdout + run.stderr)
    if run.returncode != 0:
        reason = first_error(run.stdout + run.stderr) or f"it ended with {run.returncode}"
        name = Path(command[0]).name if cwd else command[0]
        raise BuildError(f"the compiler {name} failed: {reason} (all of it: {log})")


def first_error(text: str) -> str:
    """The first line of a compiler's output that is an error, with what helps against it; or ""."""
    lines = [line.strip() for line in text.splitlines()]
    patterns = (r"\berror\b|undefined reference|cannot find -l|not found", r"\bfailed\b|\bfatal\b")
    for pattern in patterns:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE) and not line.startswith(
                ("ninja:", "FAILED:")
            ):
                return f"{line}{_remedy(line)}"
    return lines[-1] if lines else ""


def _remedy(line: str) -> str:
    if "Python.h" in line:
        return "; install Python's headers (Debian, Ubuntu: apt install python3-dev)"
    if "error while loading shared libraries" in line or "cannot execute" in line:
        return "; reinstall the compiler"
    if "No space left" in line:
        return "; make room, or set ESRGAN_CACHE_DIR to a folder elsewhere"
    return ""


@dataclass(frozen=True)
class CudaToolkit:
    """An nvcc and what belongs to it.

    Attributes
    ----------
    nvcc : Path
    home : Path
        The folder with `include` and `lib64` or `lib`; nvcc says so itself, because what stands
        on the PATH may be a wrapper.
    version : (int, int)
    architectures : tuple of str
        Compute capabilities that this nvcc says it can compile for, as in '80' or '120'.
    """

    nvcc: Path
    home: Path
    version: tuple[int, int]
    architectures: tuple[str, ...]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def _nvcc_candidates() -> list[Path]:
    """Where nvcc may be, best first: as torch looks for it, then pip's own packages."""
    candidates = [
        Path(home) / "bin" / "nvcc"
        for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"))
        if home
    ]
    on_path = shutil.which("nvcc")
    if on_path:
        candidates.append(Path(on_path))
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    candidates += sorted(packages.glob("*/bin/nvcc"), reverse=True)  # cu13, cuda_nvcc
    candidates.append(_USUAL_PLACE / "bin" / "nvcc")
    return [c for c in candidates if os.access(c, os.X_OK)]


def find_toolkit(torch_cuda: str) -> CudaToolkit:
    """The nvcc that fits torch.

    Parameters
    ----------
    torch_cuda : str
        `torch.version.cuda`; the major version must be the same.

    Raises
    ------
    BuildError
        If there is no nvcc, or none of that major version; the message says what to do.
    """
    major = int(torch_cuda.split(".")[0])
    found: list[str] = []
    for nvcc in _nvcc_candidates():
        try:
            toolkit = _examined(nvcc)
        except (OSError, subprocess.SubprocessError, BuildError) as error:
            found.append(f"{nvcc} does not work ({error})")
            continue
        if toolkit.version[0] == major and toolkit.version >= OLDEST_CUDA:
            return toolkit
        found.append(f"{nvcc} is of CUDA {toolkit.version_text}")
    there = "; ".join(found) if found else "there is no nvcc"
    # pip's packages hold an nvcc from CUDA 13 on. All of one version: nvvm of 13.5 makes code that
    # ptxas of 13.0 refuses.
    version = ".".join(torch_cuda.split(".")[:2])
    pip = f' (or pip install "cuda-toolkit[{PIP_EXTRAS}]=={version}.*")' if major >= 13 else ""
    raise BuildError(
        f"{there}, torch was built for CUDA {torch_cuda}: install the CUDA {major} toolkit{pip}, "
        "and set CUDA_HOME if it is in an unusual place"
    )


def _examined(nvcc: Path) -> CudaToolkit:
    version_text = _output([str(nvcc), "--version"])
    version = re.search(r"release (\d+)\.(\d+)", version_text)
    if version is None:
        raise BuildError("it does not say its version")
    dry = _output([str(nvcc), "--dryrun", "-E", "-x", "cu", os.devnull])
    top = re.search(r"^#\$ TOP=(.+)$", dry, re.MULTILINE)
    home = Path(top[1].strip()).resolve() if top else nvcc.parent.parent
    if not (home / "bin" / "nvcc").exists():  # that is where torch will start it from
        home = nvcc.parent.parent
    listed = _output([str(nvcc), "--list-gpu-code"])
    architectures = tuple(re.findall(r"\bsm_(\d+[a-z]?)\b", listed))
    return CudaToolkit(nvcc, home, (int(version[1]), int(version[2])), architectures)


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode:
        raise BuildError(
            (result.stderr.strip() or f"exit code {result.returncode}").split("\n")[-1]
        )
    return result.stdout + result.stderr  # the dry run goes to stderr


def architectures_for(
    capabilities: Iterable[tuple[int, int]], known: Sequence[str]
) -> tuple[str, ...]:
    """Architectures to compile for, so that the code runs on these devices.

    Parameters
    ----------
    capabilities : (major, minor) pairs
        The devices' compute capabilities. Those before `OLDEST_CAPABILITY` are left out: they run
        plain torch.
    known : sequence of str
        Compute capabilities that nvcc can compile for (`CudaToolkit.architectures`).

    Returns
    -------
    tuple of str
        '80', '86', ..., '90a' (with wgmma and TMA), or '90+PTX' for a device that is newer than
        nvcc: the driver compiles that when it loads.

    Raises
    ------
    BuildError
        If no device is left.
    """
    result = set()
    for capability in capabilities:
        if capability < OLDEST_CAPABILITY:
            continue
        architecture = _architecture(capability, known)
        if architecture is not None:
            result.add(architecture)
    if not result:
        text = ", ".join(f"{major}.{minor}" for major, minor in capabilities) or "none"
        raise BuildError(
            f"the CUDA kernels need compute capability 8.0 or later, this machine has: {text}"
        )
    return tuple(sorted(result, key=_order))


def _architecture(capability: tuple[int, int], known: Sequence[str]) -> str | None:
    major, minor = capability
    if capability == (9, 0) and "90" in known:
        return "90a"  # every nvcc that knows sm_90 compiles for it; none lists it
    plain = sorted(int(k) for k in known if k.isdigit())
    # Code for a smaller minor version runs too, within a major one.
    same = [k for k in plain if k // 10 == major and k % 10 <= minor]
    if same:
        return str(same[-1])
    older = [k for k in plain if 80 <= k < 10 * major]
    return f"{older[-1]}+PTX" if older else None


def _order(architecture: str) -> tuple[int, str]:
    return int(re.match(r"\d+", architecture)[0]), architecture  # type: ignore[index]


def parse_architectures(text: str) -> tuple[str, ...]:
    """Architectures out of TORCH_CUDA_ARCH_LIST, in torch's own notation.

    '8.0;8.6 9.0+PTX' and names like 'Ampere' are understood; 9.0 means 90a, and what is older
    than `OLDEST_CAPABILITY` is left out.

    Raises
    ------
    BuildError
        If an item is none of these, or nothing is left.
    """
    result: set[str] = set()
    items = text.replace(" ", ";").split(";")
    while items:
        item = items.pop().strip()
        if not item:
            continue
        if item in _NAMED_ARCHITECTURES:
            items += _NAMED_ARCHITECTURES[item].split(";")
            continue
        match = re.fullmatch(r"(\d+)\.(\d)(a?)(\+PTX)?", item)
        if match is None:
            if item.split("+")[0] in ("Kepler", "Maxwell", "Pascal", "Volta", "Turing"):
                continue
            raise BuildError(f"TORCH_CUDA_ARCH_LIST has an unknown architecture: {item!r}")
        capability = (int(match[1]), int(match[2]))
        if capability < OLDEST_CAPABILITY:
            continue
        number = f"{match[1]}{match[2]}"
        result.add("90a" if number == "90" else number)
        if match[4]:
            result.add(f"{number}+PTX")
    if not result:
        raise BuildError(f"TORCH_CUDA_ARCH_LIST={text!r} names nothing from 8.0 on")
    return tuple(sorted(result, key=_order))


def gencode_flags(architectures: Iterable[str]) -> list[str]:
    """nvcc's flags for these architectures."""
    flags = []
    for architecture in architectures:
        number = architecture.removesuffix("+PTX")
        kind = "compute" if architecture.endswith("+PTX") else "sm"
        flags.append(f"-gencode=arch=compute_{number},code={kind}_{number}")
    return flags


def covers(architectures: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether code for these architectures runs on a device of that compute capability."""
    for architecture in architectures:
        digits = re.match(r"\d+", architecture)
        assert digits is not None
        major, minor = divmod(int(digits[0]), 10)
        if architecture.endswith("+PTX"):
            fits = (major, minor) <= capability
        elif architecture.endswith("a"):
            fits = (major, minor) == capability
        else:
            fits = major == capability[0] and minor <= capability[1]
        if fits:
            return True
    return False


def architectures_in(library: Path) -> tuple[str, ...]:
    """The architectures that a built library was compiled for, without loading it."""
    found = re.search(rb"esrgan_ext-cuda-architectures:\(([0-9a-zPTX+,]+)\);", library.read_bytes())
    return tuple(found[1].decode().split(",")) if found else ()
