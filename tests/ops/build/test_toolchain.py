"""What is compiled, for which architectures, and by which nvcc."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from esrgan_ext.ops.build import library, toolchain
from esrgan_ext.ops.build.toolchain import BuildError
from tests.ops.fake_cuda import make_nvcc

KNOWN = ("75", "80", "86", "87", "89", "90", "100", "103", "120")


@pytest.fixture
def no_toolkits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which no CUDA toolkit is installed."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(toolchain, "_USUAL_PLACE", tmp_path / "none")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(8, 0)], ("80",)),
        ([(9, 0)], ("90a",)),  # wgmma and TMA exist in sm_90a only
        ([(8, 6), (9, 0), (8, 6)], ("86", "90a")),
        ([(7, 5), (8, 9)], ("89",)),  # the older device runs plain torch
        ([(10, 3)], ("103",)),
        ([(12, 1)], ("120",)),  # code for 12.0 runs on 12.1
        ([(13, 0)], ("120+PTX",)),  # newer than nvcc: the driver compiles
    ],
)
def test_architectures_are_those_of_the_devices(capabilities, expected):
    assert toolchain.architectures_for(capabilities, KNOWN) == expected
    assert all(
        toolchain.covers(expected, capability)
        for capability in capabilities
        if capability >= (8, 0)
    )


def test_an_old_nvcc_serves_a_new_device_through_ptx():
    assert toolchain.architectures_for([(12, 0)], ("80", "86", "89", "90")) == ("90+PTX",)


def test_old_devices_alone_are_an_error():
    with pytest.raises(BuildError, match=r"8\.0 or later.*7\.5"):
        toolchain.architectures_for([(7, 5)], KNOWN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.0", ("80",)),
        ("8.0;8.6 9.0a", ("80", "86", "90a")),
        ("9.0+PTX", ("90+PTX", "90a")),
        ("Turing Ampere", ("80", "86", "86+PTX")),
        ("Hopper;12.0", ("90+PTX", "90a", "120")),
        ("7.5;8.9", ("89",)),
    ],
)
def test_torchs_list_of_architectures_is_understood(text, expected):
    assert toolchain.parse_architectures(text) == expected


@pytest.mark.parametrize("text", ["sm_80", "8", "Ampére", "7.5", " "])
def test_other_lists_are_refused(text):
    with pytest.raises(BuildError, match="TORCH_CUDA_ARCH_LIST"):
        toolchain.parse_architectures(text)


def test_flags_for_code_and_for_ptx():
    assert toolchain.gencode_flags(["80", "90a", "90+PTX"]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
    ]


@pytest.mark.parametrize(
    ("architectures", "capability", "fits"),
    [
        (["80"], (8, 6), True),
        (["86"], (8, 0), False),
        (["80"], (9, 0), False),
        (["90a"], (9, 0), True),
        (["90a"], (10, 0), False),
        (["90+PTX"], (12, 0), True),
        (["100"], (10, 3), True),
        ([], (8, 0), False),
    ],
)
def test_what_code_runs_where(architectures, capability, fits):
    assert toolchain.covers(architectures, capability) == fits


def test_every_file_is_compiled_once_and_cuda_apart():
    csrc = library.source_folder()
    cpu, cuda = toolchain.cpu_sources(csrc), toolchain.cuda_sources(csrc)
    compiled = {p for p in csrc.rglob("*") if p.suffix in (".cpp", ".cu")}
    assert set(cpu) | set(cuda) == compiled
    assert not set(cpu) & set(cuda)
    assert csrc / "torch" / "cuda_ops.cpp" in cuda
    # torch's build names objects by the file's name alone, and .cu apart from .cpp.
    for sources in (cpu, cuda):
        assert len({(p.stem, p.suffix) for p in sources}) == len(sources)


def test_headers_of_both_belong_to_what_a_build_depends_on():
    csrc = library.source_folder()
    assert csrc / "cuda" / "network.h" in toolchain.cuda_inputs(csrc)
    assert csrc / "cuda" / "network.h" not in toolchain.cpu_inputs(csrc)
    assert csrc / "cpu" / "network.h" in toolchain.cpu_inputs(csrc)


@pytest.mark.usefixtures("no_toolkits")
class TestFindingNvcc:
    def test_none(self):
        with pytest.raises(
            BuildError, match=r"there is no nvcc.*cuda-toolkit\[nvcc.*\]==13\.0\.\*"
        ):
            toolchain.find_toolkit("13.0")
        with pytest.raises(BuildError, match="there is no nvcc") as caught:
            toolchain.find_toolkit("12.8")
        assert "pip" not in str(caught.value), "pip has no nvcc of CUDA 12"

    def test_of_cuda_home(self, tmp_path, monkeypatch):
        nvcc = make_nvcc(tmp_path / "toolkit")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
        toolkit = toolchain.find_toolkit("13.1")
        assert toolkit.nvcc == nvcc
        assert toolkit.home == tmp_path / "toolkit"
        assert toolkit.version == (13, 0)
        assert toolkit.architectures == ("80", "86", "89", "90", "120")

    def test_behind_a_wrapper_on_the_path(self, tmp_path, monkeypatch):
        real = make_nvcc(tmp_path / "real")
        wrapper = tmp_path / "bin" / "nvcc"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(wrapper))
        toolkit = toolchain.find_toolkit("13.0")
        assert toolkit.nvcc == wrapper
        assert toolkit.home == tmp_path / "real"

    def test_one_of_another_major_version_is_passed_over(self, tmp_path, monkeypatch):
        make_nvcc(tmp_path / "old", version="12.8")
        new = make_nvcc(tmp_path / "new")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "old"))
        monkeypatch.setattr(shutil, "which", lambda name: str(new))
        assert toolchain.find_toolkit("13.0").nvcc == new
        assert toolchain.find_toolkit("12.6").home == tmp_path / "old"

    def test_of_no_version_that_fits(self, tmp_path, monkeypatch):
        make_nvcc(tmp_path, version="12.1")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        for torch_cuda in ("13.0", "12.1"):  # 12.1 lacks what the kernels need
            with pytest.raises(BuildError, match=rf"CUDA 12\.1.*built for CUDA {torch_cuda}"):
                toolchain.find_toolkit(torch_cuda)

    def test_one_that_does_not_work(self, tmp_path, monkeypatch):
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.parent.mkdir()
        nvcc.write_text("#!/bin/sh\necho 'no license' >&2\nexit 3\n")
        nvcc.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        with pytest.raises(BuildError, match=r"does not work.*no license"):
            toolchain.find_toolkit("13.0")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_the_real_nvcc_says_where_it_lives():
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    major = version.split("release ")[1].split(".")[0]
    toolkit = toolchain.find_toolkit(f"{major}.0")
    assert (toolkit.home / "include" / "cuda_runtime.h").is_file()
    assert "80" in toolkit.architectures


def test_architectures_are_read_out_of_a_library(tmp_path):
    library = tmp_path / "_C_cuda.so"
    library.write_bytes(b"\0ELF..esrgan_ext-cuda-architectures:(80,90a,90+PTX);..\0")
    assert toolchain.architectures_in(library) == ("80", "90a", "90+PTX")
    library.write_bytes(b"\0ELF")
    assert toolchain.architectures_in(library) == ()


@pytest.fixture(scope="module")
def cuda_headers() -> Path:
    """The CUDA runtime's headers, from a toolkit or from pip's package."""
    try:
        found = toolchain.find_toolkit("13.0").home / "include"
    except BuildError:
        found = None
    if found is None or not (found / "cuda_runtime.h").is_file():
        pytest.skip("no CUDA headers")
    return found


@pytest.mark.parametrize("name", ["cuda_ops.cpp", "cuda_bindings.cpp"])
def test_the_operators_compile_against_torchs_headers(name, cuda_headers):
    """Against those of torch for CPUs too: they lack one generated header, which can be off."""
    compiler = os.environ.get("CXX", "c++").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C++ compiler")
    import pybind11
    from torch.utils import cpp_extension

    includes = [*cpp_extension.include_paths(), pybind11.get_include(), str(cuda_headers)]
    includes.append(sysconfig.get_paths()["include"])
    definitions = [
        "-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE",
        "-DC10_CUDA_BUILD_SHARED_LIBS",
        "-DTORCH_EXTENSION_NAME=_C_cuda",
        "-DESRGAN_CUDA_ARCHITECTURES=80,90a,90+PTX",
    ]
    csrc = library.source_folder()
    command = [*compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", *definitions]
    for include in includes:
        command += ["-isystem", include]
    subprocess.run([*command, f"-I{csrc}", str(csrc / "torch" / name)], check=True, timeout=280)
