"""Where data sets are found: a folder that the user names, or a cache that is filled by one download."""

import os
from pathlib import Path

from ..extras import require

ENVIRONMENT_VARIABLE = "CONVGMM_DATA"


def data_folder(data_dir: str | os.PathLike[str] | None, name: str) -> Path | None:
    """Return the folder `name` inside `data_dir` or, without one, inside ``$CONVGMM_DATA``; None when neither is set.

    Raises
    ------
    FileNotFoundError
        If one is set, but holds no such folder.
    """
    if data_dir is not None:
        root, source = Path(data_dir), f"data_dir={os.fspath(data_dir)!r}"
    elif os.environ.get(ENVIRONMENT_VARIABLE):
        root = Path(os.environ[ENVIRONMENT_VARIABLE])
        source = f"{ENVIRONMENT_VARIABLE}={root}"
    else:
        return None
    folder = root / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{source} holds no folder {name}/. Point it at the folder that contains {name}/, or leave it out to "
            f"download the data once into a cache."
        )
    return folder


def cache_folder() -> Path:
    """Return the folder that downloads are kept in."""
    pooch = require("pooch", "data", "downloading data")
    return Path(pooch.os_cache("convgmm"))


def download(url: str, folder: Path) -> Path:
    """Return the file of this address from the folder, downloaded there if need be; its content is not checked.

    Raises
    ------
    OSError
        If it cannot be downloaded; says how else to get the data.
    """
    pooch = require("pooch", "data", "downloading data")
    try:
        return Path(pooch.retrieve(url, known_hash=None, fname=url.rpartition("/")[2], path=folder))
    except OSError as error:
        raise OSError(
            f"cannot download {url} ({error}). Get the data by hand, and point data_dir or {ENVIRONMENT_VARIABLE} at "
            f"the folder that holds mnist/*.gz and bsds500/{{train,val,test}}/*.jpg."
        ) from error
