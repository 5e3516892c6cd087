"""The contract of ComfyUI's nodes, without ComfyUI: tables, types, and what the functions give."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import comfyui_esrgan
import esrgan_ext
from benchmarks.published import Descriptor, SRVGGNetCompact
from comfyui_esrgan import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from comfyui_esrgan.__main__ import main as command
from esrgan_ext.errors import OptionError
from tests.conftest import ROOT

# The types that ComfyUI has widgets or wires for, with the options of each that its documentation
# of a node's inputs lists, and the one type that is these nodes' own.
OPTIONS = {
    "FLOAT": {"default", "min", "max", "step", "round", "display", "tooltip"},
    "BOOLEAN": {"default", "label_on", "label_off", "tooltip"},
    "IMAGE": {"tooltip"},
    "MASK": {"tooltip"},
    "UPSCALE_MODEL": {"tooltip"},
    "ESRGAN_MODEL": {"tooltip"},
}


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_every_node_keeps_comfyuis_contract(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert NODE_DISPLAY_NAME_MAPPINGS[name]
    assert isinstance(node.CATEGORY, str)
    assert isinstance(node.DESCRIPTION, str)
    groups = node.INPUT_TYPES()
    assert "required" in groups
    assert set(groups) <= {"required", "optional"}
    for group in groups.values():
        for kind, *rest in group.values():
            (options,) = rest or [{}]
            assert options["tooltip"].endswith(".")
            if isinstance(kind, list):  # a choice
                assert kind
                assert all(isinstance(choice, str) for choice in kind)
            else:
                assert set(options) <= OPTIONS[kind]
            if kind == "FLOAT":
                assert options["min"] <= options["default"] <= options["max"]
    # ComfyUI calls the function with the inputs as keywords, optional ones only where wired.
    parameters = inspect.signature(getattr(node(), node.FUNCTION)).parameters
    assert set(parameters) == {input for group in groups.values() for input in group}
    for input in groups.get("optional", {}):
        assert parameters[input].default is not inspect.Parameter.empty
    assert isinstance(node.RETURN_TYPES, tuple)
    assert set(node.RETURN_TYPES) <= OPTIONS.keys()
    assert len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES)) == len(node.RETURN_TYPES)
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)


def test_no_more_and_no_fewer():
    assert len(NODE_CLASS_MAPPINGS) == 4
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()


class Interrupted(Exception):
    """ComfyUI's InterruptProcessingException."""


@pytest.fixture
def comfyui(monkeypatch, tmp_path):
    """Stand-ins for the functions of ComfyUI's modules that the nodes call, and what they saw."""
    seen = SimpleNamespace(bar=[], freed=[], stop_at=None)

    class ProgressBar:
        def __init__(self, total):
            seen.bar.append((0, total))

        def update_absolute(self, value, total=None):
            seen.bar.append((value, total))

    def throw_exception_if_processing_interrupted():
        if len(seen.bar) == seen.stop_at:
            raise Interrupted

    modules = {
        "comfy": SimpleNamespace(),
        "comfy.utils": SimpleNamespace(ProgressBar=ProgressBar),
        "comfy.model_management": SimpleNamespace(
            get_torch_device=lambda: torch.device("cpu"),
            free_memory=lambda wanted, device: seen.freed.append((wanted, device)),
            throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted,
        ),
        "folder_paths": SimpleNamespace(
            get_filename_list=lambda folder: ["own.pth"] if folder == "upscale_models" else [],
            get_full_path_or_raise=lambda folder, name: str(tmp_path / folder / name),
        ),
    }
    modules["comfy"].model_management = modules["comfy.model_management"]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_the_bar_covers_image_and_mask_and_memory_is_asked_for(comfyui, tiny_network):
    image, mask = torch.rand(2, 8, 10, 3), torch.rand(2, 8, 10)
    NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]().upscale(tiny_network, image, mask=mask)
    values, totals = zip(*comfyui.bar, strict=True)
    assert set(totals) == {2 * 8 * 10 * 2}
    assert list(values) == sorted(values)
    assert 2 * 8 * 10 in values  # the images are done
    assert values[-1] == totals[-1]
    ((wanted, device),) = comfyui.freed
    assert device == torch.device("cpu")
    assert wanted > image.nelement() * 4 * 16  # more than the result alone


def test_an_interruption_comes_out_as_comfyuis_own(comfyui, tiny_network):
    comfyui.stop_at = 2
    with pytest.raises(Interrupted):
        NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]().upscale(tiny_network, torch.rand(3, 8, 10, 3))
    assert comfyui.bar[-1][0] < 3 * 8 * 10


def test_files_of_comfyuis_folder_are_offered_and_loaded(comfyui, tiny_network, tmp_path):
    node = NODE_CLASS_MAPPINGS["EsrganLoadModel"]
    names, _ = node.INPUT_TYPES()["required"]["model"]
    assert names[-1] == "own.pth"
    assert "realesrgan-x4plus" in names
    (tmp_path / "upscale_models").mkdir()
    esrgan_ext.save_model(tiny_network, tmp_path / "upscale_models" / "own.pth")
    (loaded,) = node().load("own.pth")
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded(x), tiny_network(x))
    (known,) = node().load("lite-psnr-x4")
    assert known.info.name == "lite-psnr-x4"


def test_images_and_masks_equal_the_arrays(tiny_network):
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image, mask = torch.rand(2, 8, 10, 3), torch.rand(2, 8, 10)
    result, alpha = node.upscale(tiny_network, image, mask=mask)
    up = esrgan_ext.Upscaler(tiny_network, device="cpu", data_range="type")
    expected = up(image.numpy(), channel_axis=3)
    assert np.array_equal(result.numpy(), expected.clip(0, 1))
    assert np.array_equal(alpha.numpy(), up(mask.numpy(), channel_axis=False).clip(0, 1))
    result, alpha = node.upscale(tiny_network, image, factor=2.0)
    assert result.shape == (2, 16, 20, 3)
    assert torch.equal(alpha, torch.ones(2, 16, 20))


def test_a_mask_of_another_size_is_refused_unless_it_is_one_value(tiny_network):
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image = torch.rand(1, 8, 10, 3)
    _, alpha = node.upscale(tiny_network, image, mask=torch.zeros(1, 64, 64))
    assert alpha.shape == (1, 32, 40)
    with pytest.raises(ValueError, match="scale the mask"):
        node.upscale(tiny_network, image, mask=torch.rand(1, 64, 64))


def test_a_loaded_model_is_accelerated_and_comes_back_as_one():
    model = Descriptor(SRVGGNetCompact().eval(), 4)
    (fast,) = NODE_CLASS_MAPPINGS["EsrganAccelerateModel"]().accelerate(model)
    assert type(fast) is Descriptor
    x = torch.rand(1, 3, 8, 8)
    assert torch.allclose(fast(x), model(x), atol=1e-5)


def test_denoise_mixes_the_files_that_the_model_came_from():
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image = torch.rand(1, 8, 10, 1)
    network = esrgan_ext.load_model("lite-micro-x4")
    result, _ = node.upscale(network, image, denoise=0.25)
    up = esrgan_ext.Upscaler("lite-micro-x4", denoise=0.25, device="cpu", data_range="type")
    assert np.array_equal(result.numpy(), up(image.numpy(), channel_axis=3).clip(0, 1))
    mixed = esrgan_ext.interpolate("lite-micro-x4", "lite-micro-denoise-x4", 0.5)
    with pytest.raises(OptionError, match="set denoise to -1"):
        node.upscale(mixed, image, denoise=0.5)


def test_a_file_that_only_has_a_catalogue_models_name_is_not_taken_for_it(tmp_path):
    network = esrgan_ext.load_model("lite-micro-x4")
    for parameter in network.parameters():
        parameter.mul_(1.01)
    esrgan_ext.save_model(network, tmp_path / "lite-micro-x4.safetensors")
    other = esrgan_ext.load_model(tmp_path / "lite-micro-x4.safetensors")
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    with pytest.raises(OptionError, match="no other to mix with"):
        node.upscale(other, torch.rand(1, 8, 10, 1), denoise=0.5)


def test_a_model_that_is_not_ours_comes_back_and_the_log_says_why(caplog):
    model = Descriptor(torch.nn.Conv2d(3, 3, 3), 1)
    (same,) = NODE_CLASS_MAPPINGS["EsrganAccelerateModel"]().accelerate(model)
    assert same is model
    assert "not an ESRGAN network" in caplog.text


WORKFLOWS = sorted((Path(comfyui_esrgan.__file__).parent / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_fit_the_nodes(file):
    workflow = json.loads(file.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, source, output, target, place, kind in workflow["links"]:
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][place]["type"] == kind
    ours = [node for node in nodes.values() if node["type"] in NODE_CLASS_MAPPINGS]
    assert ours
    for entry in ours:
        node = NODE_CLASS_MAPPINGS[entry["type"]]
        assert tuple(output["type"] for output in entry["outputs"]) == node.RETURN_TYPES
        groups = node.INPUT_TYPES()
        inputs = {name: kind for group in groups.values() for name, kind in group.items()}
        wired = {item["name"] for item in entry["inputs"] if item["link"] is not None}
        values = iter(entry.get("widgets_values", []))
        for name, (kind, *options) in inputs.items():
            if isinstance(kind, list):
                assert next(values) in kind
            elif kind == "FLOAT":
                assert options[0]["min"] <= next(values) <= options[0]["max"]
            elif kind == "BOOLEAN":
                assert isinstance(next(values), bool)
            else:
                assert name in wired or name not in groups["required"]
        assert not list(values)


def test_there_are_workflows_with_all_nodes():
    used = {node["type"] for file in WORKFLOWS for node in json.loads(file.read_text())["nodes"]}
    assert used >= NODE_CLASS_MAPPINGS.keys()


def test_the_command_links_the_folder_into_comfyui(tmp_path, capsys):
    assert command([str(tmp_path)]) == 1
    assert "no folder custom_nodes" in capsys.readouterr().err
    place = tmp_path / "custom_nodes" / "comfyui_esrgan"
    place.parent.mkdir()
    assert command([str(tmp_path)]) == 0
    assert place.is_symlink()
    assert (place / "nodes.py").samefile(Path(comfyui_esrgan.__file__).parent / "nodes.py")
    assert command([str(tmp_path)]) == 0
    assert "there already" in capsys.readouterr().out
    place.unlink()
    place.symlink_to(tmp_path / "gone")
    assert command([str(tmp_path)]) == 0
    assert (place / "nodes.py").is_file()
    place.unlink()
    place.mkdir()
    assert command([str(tmp_path)]) == 1
    assert "in the way" in capsys.readouterr().err


def nodes_of(folder):
    """As ComfyUI loads a folder of `custom_nodes`: by its `__init__.py`, under the path as name."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[key]
    return module.NODE_CLASS_MAPPINGS.keys()


@pytest.mark.parametrize("placed", ["linked", "copied"])
def test_the_folder_loads_where_comfyui_looks_for_it(tmp_path, placed):
    source, place = Path(comfyui_esrgan.__file__).parent, tmp_path / "custom_nodes/comfyui_esrgan"
    place.parent.mkdir()
    if placed == "linked":
        place.symlink_to(source, target_is_directory=True)
    else:
        shutil.copytree(source, place)
    assert nodes_of(place) == NODE_CLASS_MAPPINGS.keys()


def test_a_clone_of_comfyui_manager_becomes_a_pack(tmp_path):
    clone = tmp_path / "custom_nodes" / "esrgan"
    clone.mkdir(parents=True)
    shutil.copy(ROOT / "install.py", clone)
    shutil.copytree(Path(comfyui_esrgan.__file__).parent, clone / "comfyui_esrgan")
    script = runpy.run_path(str(clone / "install.py"))
    asked = []
    run = SimpleNamespace(
        run=lambda command: asked.append(command) or SimpleNamespace(returncode=0)
    )
    script["main"].__globals__["subprocess"] = run
    assert script["main"]() == 0
    assert asked == [[sys.executable, "-m", "pip", "install", str(clone)]]
    assert nodes_of(clone) == NODE_CLASS_MAPPINGS.keys()
    assert sorted(path.name for path in (clone / "example_workflows").iterdir()) == sorted(
        file.name for file in WORKFLOWS
    )
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/__init__.py", "/example_workflows"} <= set(ignored)


def test_install_py_refuses_other_places(tmp_path, capsys):
    shutil.copy(ROOT / "install.py", tmp_path)
    assert runpy.run_path(str(tmp_path / "install.py"))["main"]() == 1
    assert "custom_nodes" in capsys.readouterr().err


def test_the_registry_finds_what_it_wants():
    """Of the specification of a pack's pyproject.toml: the required fields, and what a name is."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, comfy = settings["project"], settings["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z]([-_.]?[A-Za-z0-9]+)*", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", comfy["PublisherId"])
    assert set(comfy) <= {
        "PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui", "includes", "web"
    }  # fmt: skip
    systems = [c for c in project["classifiers"] if c.startswith("Operating System :: ")]
    assert all("POSIX" in system for system in systems)
