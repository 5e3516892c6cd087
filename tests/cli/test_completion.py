"""Tab in bash, zsh and fish, after `esrgan --install-completion`."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from esrgan_ext.cli import app, completion
from esrgan_ext.weights import list_models
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")

LITE_MICRO = ["lite-micro-x4", "lite-micro-denoise-x4"]

SCRIPTS = Path(sys.executable).parent


def test_words_are_those_that_the_options_take() -> None:
    from esrgan_ext.inference import devices, folder

    assert completion.FORMATS == folder.FORMATS
    assert list(completion.PRECISIONS) == ["auto", *devices.PRECISIONS]


def offered(line: str) -> list[str]:
    """What the program answers to bash."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", "from esrgan_ext.cli import app; app(prog_name='esrgan')"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "_ESRGAN_COMPLETE": "complete_bash",
             "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("esrgan e", ["export", "evaluate"]),
        ("esrgan upscale --data", ["--data-range"]),
        ("esrgan upscale -m bs", ["bsrgan-x4"]),
        ("esrgan upscale x.png -m au", ["auto"]),
        ("esrgan evaluate -m bi", ["bicubic"]),
        ("esrgan compare a.png --models bicubic lite-m", LITE_MICRO),
        ("esrgan compare a.png --models bicubic -d cp", ["cpu"]),
        ("esrgan compare a", []),  # files
        ("esrgan upscale a", []),
        ("esrgan upscale -m ./mine", []),
        ("esrgan train real-", ["real-esrnet"]),
        ("esrgan upscale -p f", ["fp32", "fp16"]),
    ],
)  # fmt: skip
def test_what_is_offered(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_every_model_is_offered() -> None:
    assert offered("esrgan export ") == [model.name for model in list_models()]


def test_answers_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom esrgan_ext.cli import completion as c\n"
        "assert c.models()('') and c.recipes('')\n"
        "heavy = {'torch', 'cv2', 'numpy', 'tifffile'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_options_that_choose_a_model_offer_models() -> None:
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            if (parameter.metavar or "").startswith("MODEL"):
                assert parameter._custom_shell_complete is not None, (command.name, parameter.name)


class Terminal:
    """A shell that is typed into."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Until the pattern appears in what is shown from here on."""
        begin, shown = time.monotonic(), ""
        while not re.search(pattern, shown):
            assert time.monotonic() - begin < seconds, f"{pattern!r} does not appear: {shown!r}"
            if select.select([self._leader], [], [], 0.2)[0]:
                shown += os.read(self._leader, 4096).decode(errors="replace")
        self.seen += shown


@contextmanager
def terminal(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[Terminal]:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    try:
        yield Terminal(leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has just installed the program."""
    if not (SCRIPTS / "esrgan").exists():
        pytest.skip("the console script is not installed")
    # pip's own first line lets the shell read a "$" in the path of an environment.
    launcher = tmp_path / "bin" / "esrgan"
    launcher.parent.mkdir()
    command = shlex.join([sys.executable, str(SCRIPTS / "esrgan")])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
    launcher.chmod(0o755)
    keep = {"OMP_NUM_THREADS", "LD_LIBRARY_PATH", "LANG"}
    return {key: value for key, value in os.environ.items() if key in keep} | {
        "HOME": str(tmp_path), "PATH": f"{launcher.parent}:/usr/bin:/bin", "TERM": "dumb",
        "PYTHONPATH": str(ROOT), "PS1": "ready> ", "XDG_CONFIG_HOME": str(tmp_path / ".config"),
    }  # fmt: skip


def install(shell: str, environment: dict[str, str]) -> None:
    """`esrgan --install-completion`, called from that shell, which it recognizes."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run(
        # `true`: a last command would take the shell's place.
        [found, "-c", "esrgan --install-completion; true"],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert f"{shell} completion installed" in done.stdout, done.stdout + done.stderr


def test_bash(home: dict[str, str], tmp_path: Path) -> None:
    install("bash", home)
    (tmp_path / "photo.png").touch()
    with terminal(["bash", "-i"], home, tmp_path) as shell:
        shell.type("PS1='ready> '\n")
        shell.wait_for("ready> $")
        shell.type("echo esrgan; esrgan upsc\t")
        shell.wait_for("upscale $")
        shell.type("-m realesrgan-x2\t")
        shell.wait_for("realesrgan-x2plus $")
        shell.type("pho\t")
        shell.wait_for(r"photo\.png $")


def test_zsh(home: dict[str, str], tmp_path: Path) -> None:
    install("zsh", home)
    (tmp_path / "photo.png").touch()
    with terminal(["zsh", "-i", "-V"], home, tmp_path) as shell:
        shell.type("PS1='ready> '\n")
        shell.wait_for("ready> ")
        shell.type("esrgan upsc\t")
        shell.wait_for("upsc.*ale")
        shell.type("-m realesrgan-x2\t")
        shell.wait_for("x2.*plus")
        shell.type("pho\t")
        shell.wait_for(r"pho.*to\.png")


def test_fish(home: dict[str, str], tmp_path: Path) -> None:
    install("fish", home)
    (tmp_path / "photo.png").touch()

    def completions(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "-c", f"complete -C {line!r}"],
            env=home, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert completions("esrgan upsc") == ["upscale"]
    assert completions("esrgan upscale -m realesrgan-x2") == ["realesrgan-x2plus"]
    assert completions("esrgan upscale pho") == ["photo.png"]
