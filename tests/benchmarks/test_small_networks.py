"""The benchmark of small networks, on networks that are smaller still."""

from __future__ import annotations

import json
import sys

import cv2
import pytest
import torch
import torch.nn.functional as F

from benchmarks import small_networks
from benchmarks.small_networks import Candidate, build, recipe_for

ENDS = ("", "bicubic", "shuffle 2", "shuffle 4")


@pytest.fixture
def folders(tmp_path, photo):
    for name, part in (("hr", photo), ("test", photo[40:104, 40:120])):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "photo.png"), part[..., ::-1])
    return tmp_path


def test_a_row_for_each_network_and_nothing_is_trained_twice(folders, monkeypatch, capsys):
    candidates = (
        Candidate("rrdbnet", 8, 1, 4),
        Candidate("rrdbnet", 8, 1, 4, end="shuffle 2"),
        Candidate("compact", 8, 2),
    )
    monkeypatch.setattr(small_networks, "CANDIDATES", candidates)
    command = ["small_networks", "--hr", folders / "hr", "--test", folders / "test"]
    command += ["--out", folders / "out", "--steps", 3, "--patch", 32, "--rounds", 1]
    command += ["--side", 16, "--seeds", 0, 5]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    small_networks.main()
    printed = capsys.readouterr().out
    first, second, third = printed.splitlines()[-3:]
    assert first.startswith("rrdbnet nf 8, nb 1, gc 4: 0.0")
    assert "1.00 times the first's time" in first
    assert second.startswith("rrdbnet nf 8, nb 1, gc 4, shuffle 2: 0.0")
    assert third.startswith("compact nf 8, nb 2: 0.0")
    # The mean over the seeds, and how far they are apart.
    runs = folders / "out" / "steps-3-patch-32"
    found = [
        json.loads((runs / f"compact-nf-8-nb-2-{seed}" / "decibels.json").read_text())[0]
        for seed in (0, 5)
    ]
    assert found[0] != found[1]
    spread = abs(found[0] - found[1])
    assert f"{sum(found) / 2:.2f} dB (within {spread:.2f})" in third

    monkeypatch.setattr(small_networks, "trained", None)  # which would be called
    small_networks.main()
    assert capsys.readouterr().out.splitlines()[:6] == printed.splitlines()[:6]


@pytest.mark.parametrize("end", ENDS)
def test_every_end_passes_the_image_on_at_first(end):
    candidate = Candidate("rrdbnet", 32, 1, end=end)
    network = build(candidate, recipe_for(candidate, 1, 32), 0)
    x = torch.rand(1, 3, 24, 20)
    with torch.no_grad():
        y = network(x)
    mode = "bicubic" if end == "bicubic" else "nearest"
    expected = F.interpolate(x, scale_factor=4, mode=mode)
    assert y.shape == expected.shape
    # Each colour is its own, beside what the other features' random weights add.
    likeness = torch.corrcoef(torch.cat([y[0], expected[0]]).flatten(1))[:3, 3:]
    assert likeness.argmax(1).tolist() == [0, 1, 2]
    assert likeness.diagonal().min() > 0.5
    if end.startswith("shuffle"):
        factor = int(end[-1])
        first = y[..., ::factor, ::factor]
        assert torch.equal(F.interpolate(first, scale_factor=factor, mode="nearest"), y)
