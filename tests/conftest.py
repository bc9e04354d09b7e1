"""What the tests share: the real data's folder, and small data of every kind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convgmm import _core


@pytest.fixture(scope="session", autouse=True)
def level() -> str:
    """Return the instruction set in use; a forced one must be that."""
    assert _core.level == os.environ.get("CONVGMM_ISA", _core.level)
    return _core.level


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with the real data sets; without CONVGMM_DATA the test is skipped."""
    folder = os.environ.get("CONVGMM_DATA")
    if not folder:
        pytest.skip("set CONVGMM_DATA to the folder with mnist/ and bsds500/")
    return Path(folder)


def trials(n_quick: int, n_all: int) -> list:
    """Return the numbers of random problems, each a test of its own; all but the first few are slow."""
    return [pytest.param(trial, marks=[pytest.mark.slow] * (trial >= n_quick)) for trial in range(n_all)]


class Command:
    """A process that takes interrupts, also where the tests run in the background and ignore them."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def stop(self, how: signal.Signals, timeout: float = 30) -> str:
        """Send a signal; return what the process printed until it ended."""
        self.process.send_signal(how)
        try:
            return self.process.communicate(timeout=timeout)[0]
        finally:
            self.process.kill()


@pytest.fixture
def command() -> type[Command]:
    """Return what starts a Python process that can be interrupted."""
    return Command


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
