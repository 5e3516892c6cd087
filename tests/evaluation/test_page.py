"""The page of `esrgan compare`, in a browser: from a file, without network, by mouse, keys and
fingers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from esrgan_ext.cli import app
from esrgan_ext.evaluation.comparison import Comparison, Picture, compare
from esrgan_ext.evaluation.metrics import psnr, ssim
from esrgan_ext.evaluation.page import write_page
from esrgan_ext.inference.files import write_image
from esrgan_ext.inference.resample import bicubic, imresize
from tests.conftest import make_network
from tests.evaluation.chromium import Chromium, find_chromium

HOSTILE = "</script><img src=x onerror=document.title='hit'>&\"'.png"
RED, GREEN, BLUE = (255, 0, 0), (0, 200, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int], side: int) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each, so that what is seen tells which is shown."""
    pictures = (
        Picture("source", plain(RED, 16)),
        Picture(HOSTILE, plain(GREEN, 64), psnr=30.125, ssim=0.9),
        Picture("bicubic", plain(BLUE, 64), psnr=20.5, ssim=0.5),
    )
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    grays = (Picture("source", ramp[::4, ::4]), Picture("lite", ramp), Picture("bicubic", ramp))
    images = [
        Comparison(HOSTILE, 4, 0, 255, "uint8", pictures),
        Comparison("counts.tif", 4, 100, 3000, "uint16", grays),
    ]
    return write_page(images, tmp_path_factory.mktemp("page") / "report page #1.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def opened(browser: Chromium, page: Path) -> Chromium:
    browser.events.clear()
    browser.screen(1000, 700)
    browser.dark(False)
    browser.open(page.as_uri())
    browser.wait_for("current().pictures.every((p) => p.canvas.width > 0)")
    return browser


def colour_at(browser: Chromium, share: float, pane: int = 0) -> tuple[int, ...]:
    """What a screenshot shows at a share of a pane's width, a third from its top."""
    x, y = browser.run(
        f"(() => {{ const a = panes[{pane}].box.getBoundingClientRect();"
        f" return [a.left + {share} * a.width, a.top + a.height / 3]; }})()"
    )
    shot = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    ratio = browser.run("devicePixelRatio")
    return tuple(int(v) for v in shot[int(y * ratio), int(x * ratio), ::-1])


def line_at(browser: Chromium) -> tuple[float, float]:
    return tuple(
        browser.run(
            "(() => { const a = document.getElementById('line').getBoundingClientRect();"
            " return [a.left + a.width / 2, a.top + a.height / 2]; })()"
        )
    )


def test_it_opens_from_a_file_and_asks_for_nothing_else(opened: Chromium, page: Path) -> None:
    requests = [
        event["params"]["request"]["url"]
        for event in opened.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    errors = [
        event
        for event in opened.events
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert not errors
    text = page.read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_dragging_the_line_swipes(opened: Chromium) -> None:
    assert colour_at(opened, 0.4) == RED
    assert colour_at(opened, 0.6) == GREEN
    x, y = line_at(opened)
    opened.drag((x, y), (x + 200, y))
    assert line_at(opened)[0] == pytest.approx(x + 200, abs=1)
    assert colour_at(opened, 0.6) == RED
    opened.drag((x + 200, y), (x - 200, y))
    assert colour_at(opened, 0.4) == GREEN


def test_a_finger_swipes_and_two_zoom_on_a_phone(opened: Chromium, page: Path) -> None:
    opened.screen(360, 740, phone=True)
    opened.open(page.as_uri())
    opened.wait_for("current().pictures.every((p) => p.canvas.width > 0)")
    assert opened.run("document.documentElement.scrollWidth") <= 360
    x, y = line_at(opened)
    opened.touch([(x, y)], [(x + 60, y)], [(x + 120, y)])
    assert line_at(opened)[0] == pytest.approx(x + 120, abs=1)
    assert colour_at(opened, 0.6) == RED
    before = opened.run("state.zoom")
    opened.touch([(60, 300), (100, 300)], [(40, 300), (120, 300)], [(20, 300), (140, 300)])
    assert opened.run("state.zoom") == pytest.approx(3 * before, rel=0.05)
    buttons = opened.run(
        "[...document.querySelectorAll('button, select')].filter((b) => b.offsetParent)"
        ".map((b) => b.getBoundingClientRect()).map((r) => [r.left, r.right, r.height])"
    )
    assert all(left >= 0 and right <= 360 and height >= 40 for left, right, height in buttons)


def test_pictures_keep_their_shape_when_the_values_need_more_room(opened: Chromium) -> None:
    opened.run("document.getElementById('values').textContent = 'many values '.repeat(60)")
    opened.wait_for("panes[0].canvas.height === panes[0].box.clientHeight")
    assert opened.run("panes[0].canvas.width === panes[0].box.clientWidth")


def test_zoom_and_pan_are_those_of_all_panes(opened: Chromium) -> None:
    opened.key("s")
    assert opened.run("panes.length") == 3
    assert [colour_at(opened, 0.5, pane) for pane in range(3)] == [RED, GREEN, BLUE]
    opened.run("state.zoom = 1; draw()")
    x, y = opened.run(
        "(() => { const a = panes[0].box.getBoundingClientRect();"
        " return [a.left + a.width / 2, a.top + a.height / 2]; })()"
    )
    opened.drag((x, y), (x + 60, y))  # the 64 pixels now begin 28 right of each pane's middle
    shot = cv2.imdecode(np.frombuffer(opened.screenshot(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    for pane, colour in enumerate((RED, GREEN, BLUE)):
        middle_x, middle_y = opened.run(
            f"(() => {{ const a = panes[{pane}].box.getBoundingClientRect();"
            " return [a.left + a.width / 2, a.top + a.height / 2]; })()"
        )
        assert tuple(shot[int(middle_y), int(middle_x) + 33]) == colour
        assert tuple(shot[int(middle_y), int(middle_x) + 20]) != colour
    opened.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-200)
    opened.wait_for("state.zoom > 1.3")


def test_everything_is_there_by_keyboard(opened: Chromium) -> None:
    x, _ = line_at(opened)
    opened.key("ArrowRight")
    assert line_at(opened)[0] > x
    opened.key("w")
    assert colour_at(opened, 0.6) == BLUE
    opened.key("q")
    assert colour_at(opened, 0.4) == GREEN
    opened.key(" ", up=False)
    assert colour_at(opened, 0.6) == RED
    opened.release(" ")
    assert colour_at(opened, 0.6) == BLUE
    zoom = opened.run("state.zoom")
    opened.key("+")
    assert opened.run("state.zoom") == pytest.approx(1.25 * zoom)
    opened.key("0")
    assert opened.run("state.zoom") == pytest.approx(zoom)
    opened.key("n")
    assert opened.run("state.image") == 1
    opened.key("p")
    opened.key("t")
    assert opened.run("document.documentElement.classList.contains('dark')")


def test_it_follows_the_systems_light_and_dark(browser: Chromium, page: Path) -> None:
    browser.screen(1000, 700)
    found = []
    for dark in (False, True):
        browser.dark(dark)
        browser.open(page.as_uri())
        found.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert found == ["rgb(245, 246, 248)", "rgb(20, 22, 26)"]


def test_names_are_text(opened: Chromium) -> None:
    assert opened.run("document.title") == HOSTILE
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("panes[0].tags[1].textContent") == HOSTILE


def test_values_and_scores_are_shown(opened: Chromium) -> None:
    rows = opened.run("[...document.querySelectorAll('#scores tr')].map((r) => r.innerText)")
    assert rows[1].split("\t")[-2:] == ["30.13", "0.9000"]
    assert opened.run("document.querySelector('tr.best').innerText").startswith(HOSTILE[:5])
    opened.key("n")
    opened.wait_for("current().pictures.every((p) => p.canvas.width > 0)")
    opened.run(
        "(() => { const a = panes[0].box.getBoundingClientRect();"
        " state.zoom = 4; state.x = state.y = 32; state.line = 0; draw();"
        " panes[0].canvas.dispatchEvent(new PointerEvent('pointermove',"
        " { clientX: a.left + a.width / 2 + 2, clientY: a.top + a.height / 2 + 2 })); })()"
    )
    # Column 32 of the ramp is 128 of 255 between 100 and 3000.
    text = opened.run("document.getElementById('values').textContent")
    assert text.startswith("x 32, y 32")
    assert f"lite: ≈{round(100 + 128 / 255 * 2900)}" in text


# What goes into the page.


def test_pictures_scores_and_names_are_right(tmp_path: Path, photo: np.ndarray) -> None:
    lr = imresize(photo, (32, 32))
    write_image(tmp_path / "photo_x4.png", lr)
    (tmp_path / "hr").mkdir()
    write_image(tmp_path / "hr" / "photo.png", photo)
    network = make_network()
    (found,), failures = compare([tmp_path / "photo_x4.png"], [network, "bicubic"], tmp_path / "hr")
    assert not failures
    assert [picture.name for picture in found.pictures] == [
        "source", "custom", "bicubic", "reference",
    ]  # fmt: skip
    source, _, cubic, reference = found.pictures
    np.testing.assert_array_equal(source.pixels, lr)
    np.testing.assert_array_equal(reference.pixels, photo)
    np.testing.assert_array_equal(cubic.pixels, imresize(lr, (128, 128)))
    # OpenCV's luma has the same coefficients; it is rounded elsewhere.
    y = [cv2.cvtColor(p, cv2.COLOR_RGB2YCrCb)[..., 0] for p in (cubic.pixels, photo)]
    studio = [(16 + v.astype(np.float64) * 219 / 255).round().astype(np.uint8) for v in y]
    assert cubic.psnr == pytest.approx(psnr(*studio, border=4), abs=0.1)
    assert cubic.ssim == pytest.approx(ssim(*studio, border=4), abs=0.005)


def test_sixteen_bits_share_one_range(tmp_path: Path) -> None:
    ramp = np.linspace(500, 1500, 64 * 64).reshape(64, 64).astype(np.uint16)
    write_image(tmp_path / "counts.tif", ramp)
    (found,), _ = compare([tmp_path / "counts.tif"], ["bicubic"])
    assert 500 <= found.low < found.high <= 1500
    source, cubic = (picture.pixels for picture in found.pictures)
    assert (source.min(), source.max()) == (0, 255)
    assert abs(int(cubic[128, 128]) - int(source[32, 32])) <= 3


def test_bicubic_of_other_types_is_matlabs(photo: np.ndarray) -> None:
    faint = photo // 2 + 64  # nothing to be clipped on the way
    expected = imresize(faint, (60, 300)).astype(np.float64)
    found = bicubic(faint.astype(np.float32), (60, 300))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1.5  # rounded twice, and not at all
    limits = bicubic(np.array([[0, 65535], [65535, 0]], np.uint16), (8, 8))
    assert (limits.min(), limits.max()) == (0, 65535)


def test_the_command_takes_models_in_a_row(tmp_path: Path, photo: np.ndarray) -> None:
    image = tmp_path / "a.png"
    write_image(image, photo[:24, :24])
    (tmp_path / "broken.png").write_text("text")
    page = tmp_path / "r.html"
    arguments = ["compare", str(image), str(tmp_path / "broken.png"), "--models"]
    arguments += ["lite-psnr-x4", "lite-esrgan-x4", "bicubic", "-o", str(page)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "broken.png" in done.output
    text = page.read_text()
    start = text.index('id="data">') + len('id="data">')
    (entry,) = json.loads(text[start : text.index("</script>", start)])["images"]
    names = [picture["name"] for picture in entry["pictures"]]
    assert names == ["source", "lite-psnr-x4", "lite-esrgan-x4", "bicubic"]
    for lacking in (["--models"], ["--models", "-o", str(page)], []):
        assert CliRunner().invoke(app, ["compare", str(image), *lacking]).exit_code == 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("stack", "single planes"), ("large", "million pixels"), ("size", "reference has shape")],
)
def test_what_cannot_be_compared_is_told(tmp_path: Path, kind: str, reason: str) -> None:
    path, reference = tmp_path / "a.tif", None
    shape = {"stack": (5, 16, 16), "large": (1100, 1100), "size": (16, 16)}[kind]
    write_image(path, np.zeros(shape, np.uint16))
    if kind == "size":
        reference = tmp_path / "b.tif"
        write_image(reference, np.zeros((60, 64), np.uint16))
    found, (failure,) = compare([path], ["bicubic"], reference)
    assert not found
    assert failure.file == str(path)
    assert reason in failure.reason
