"""What the tests share: the real data's folder, and small data of every kind."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with the real data sets; without CONVGMM_DATA the test is skipped."""
    folder = os.environ.get("CONVGMM_DATA")
    if not folder:
        pytest.skip("set CONVGMM_DATA to the folder with mnist/ and bsds500/")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
