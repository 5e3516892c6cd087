"""The benchmark of small networks, on networks that are smaller still."""

from __future__ import annotations

import sys

import cv2
import pytest

from benchmarks import small_networks
from benchmarks.small_networks import Candidate
from esrgan_ext.training.validation import validate, validation_pairs
from esrgan_ext.weights import load_model


@pytest.fixture
def folders(tmp_path, photo):
    for name, part in (("hr", photo), ("test", photo[40:104, 40:120])):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "photo.png"), part[..., ::-1])
    return tmp_path


def test_a_row_for_each_network_and_nothing_is_trained_twice(folders, monkeypatch, capsys):
    candidates = (Candidate("rrdbnet", 8, 1, 4), Candidate("compact", 8, 2))
    monkeypatch.setattr(small_networks, "CANDIDATES", candidates)
    command = ["small_networks", "--hr", folders / "hr", "--test", folders / "test"]
    command += ["--out", folders / "out", "--steps", 3, "--patch", 32, "--rounds", 1]
    command += ["--side", 16, "--seeds", 0, 5]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    small_networks.main()
    printed = capsys.readouterr().out
    first, second = printed.splitlines()[-2:]
    assert first.startswith("rrdbnet nf 8, nb 1, gc 4: 0.0")
    assert "1.00 times the first's time" in first
    assert second.startswith("compact nf 8, nb 2: 0.0")
    # The mean over the seeds, of the weights that lie there.
    runs = folders / "out" / "steps-3-patch-32"
    found = [
        validate(
            load_model(runs / f"compact-nf-8-nb-2-{seed}" / "model.safetensors"),
            validation_pairs(folders / "test", 4),
        )[0]
        for seed in (0, 5)
    ]
    assert found[0] != found[1]
    assert f"{sum(found) / 2:.2f} dB (within {abs(found[0] - found[1]):.2f})" in second

    monkeypatch.setattr(small_networks, "train", None)  # which would be called
    small_networks.main()
    assert capsys.readouterr().out.splitlines()[:4] == printed.splitlines()[:4]
