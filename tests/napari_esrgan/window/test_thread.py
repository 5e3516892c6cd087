"""Work in a thread, before it has begun."""

from __future__ import annotations

from napari_esrgan._window.thread import ThreadRunner


def test_work_that_is_cancelled_before_it_begins_does_not(qtbot):
    runner, ran = ThreadRunner(), []
    runner.start_soon(lambda *_: ran.append(1))
    with qtbot.waitSignal(runner.cancelled, timeout=5000):
        runner.cancel()
    assert not runner.running
    qtbot.wait(200)
    assert not ran
    runner.start_soon(lambda *_: "again")
    with qtbot.waitSignal(runner.finished, timeout=5000) as finished:
        pass
    assert finished.args == ["again"]
