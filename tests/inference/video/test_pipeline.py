"""The pipeline of a clip: networks beside one another."""

from __future__ import annotations

import threading

import numpy as np

from esrgan_ext.inference.devices import choose_device
from esrgan_ext.inference.video.pipeline import Networks


def test_two_devices_work_on_a_clip_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    class Waits:
        device = choose_device("cpu")

        def __call__(self, frame: np.ndarray) -> np.ndarray:
            both.wait()  # passes only where two are called at the same time
            return frame + 1

    networks = Networks([Waits(), Waits()])  # type: ignore[list-item]
    with networks:
        begun = [networks.begin([np.full((2, 2), k)]) for k in range(4)]
        assert [int(results.result()[0][0, 0]) for results in begun] == [1, 2, 3, 4]
