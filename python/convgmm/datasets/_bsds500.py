"""The Berkeley segmentation photographs, BSDS500 (Arbeláez, Maire, Fowlkes and Malik, TPAMI 2011)."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..extras import require
from ._location import cache_folder, data_folder, download

_URL = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
_IN_ARCHIVE = "BSR/BSDS500/data/images"

_SPLITS = {"train": 200, "val": 100, "test": 200}

# SHA-256 over the 500 photographs: for each, sorted by split and name, its "split/name", a zero byte and its content.
_SHA256 = "716699da42b10161f4ce25b3cca1fab1b7f77537ab26517360ca74416151f142"


def load_bsds500(
    split: Literal["train", "val", "test"] = "train", data_dir: str | os.PathLike[str] | None = None
) -> list[NDArray[np.float32]]:
    """Load photographs as grey images.

    Parameters
    ----------
    split : {"train", "val", "test"}, default="train"
        200, 100 or 200 photographs.
    data_dir : path, default=None
        Folder that holds ``bsds500/{train,val,test}/*.jpg``; by default the one that the environment variable
        ``CONVGMM_DATA`` names. Without either, the archive is downloaded once into a cache, and a digest over the
        photographs is checked.

    Returns
    -------
    images : list of ndarray of shape (481, 321) or (321, 481), float32
        Luma of ITU-R recommendation BT.601, from 0 to 1, in the order of the file names.

    Raises
    ------
    ValueError
        If `split` is unknown, or a photograph cannot be decoded.
    FileNotFoundError
        If the folder has no photographs of this split.
    ImportError
        If pillow, or for a download pooch, is not installed.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {sorted(_SPLITS)}, got {split!r}.")
    folder = data_folder(data_dir, "bsds500") or _download()
    paths = sorted((folder / split).glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"{folder / split} holds no .jpg file.")
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        return list(pool.map(load_grey, paths))


def load_grey(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Return a photograph's luma, from 0 to 1, (height, width)."""
    pillow = require("PIL.Image", "data", "reading photographs")
    try:
        with pillow.open(path) as image:
            grey = image.convert("L")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged or not a photograph: {error}") from error
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def _digest(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


def _photographs(root: Path) -> list[str]:
    return [f"{split}/{path.name}" for split in _SPLITS for path in sorted((root / split).glob("*.jpg"))]


def _download() -> Path:
    target = cache_folder() / "bsds500"
    if target.is_dir():
        return target
    # The archive's own sum is not published; what it unpacks to is checked instead.
    archive = download(_URL, target.parent)
    return _unpack(archive, target, _SHA256)


def _unpack(archive: Path, target: Path, expected: str) -> Path:
    """Unpack the photographs beside `target`, check them, and move them there in one step."""
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        unpacked = Path(temporary) / "bsds500"
        for split in _SPLITS:
            (unpacked / split).mkdir(parents=True)
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    split, name = Path(member.name).parts[-2:] if "/" in member.name else ("", "")
                    if member.name != f"{_IN_ARCHIVE}/{split}/{name}" or not name.endswith(".jpg"):
                        continue
                    source = tar.extractfile(member)
                    if source is not None:
                        (unpacked / split / name).write_bytes(source.read())
        except (tarfile.TarError, EOFError, OSError) as error:
            archive.unlink()
            raise ValueError(f"the downloaded archive is damaged and has been removed; try again. ({error})") from error
        if _digest(unpacked, _photographs(unpacked)) != expected:
            archive.unlink()
            raise ValueError("the downloaded photographs are not the published ones and have been removed; try again.")
        unpacked.rename(target)
    archive.unlink()
    return target
