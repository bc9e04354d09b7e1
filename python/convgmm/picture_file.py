"""Pictures read from files and written back as they were: 8 or 16 bits, grey or colour, with alpha."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .extras import require
from .files import write_atomically


def read_picture(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return an image file's values.

    Returns
    -------
    image : ndarray of shape (height, width) or (height, width, channels), uint8 or uint16
        Two channels are grey and alpha, three colours, four colours and alpha. A palette's colours are looked up.

    Raises
    ------
    ValueError
        If the file is no picture that can be read.
    OSError
        If there is none.
    ImportError
        If pillow is not installed.
    """
    pillow = require("PIL.Image", "data", "reading pictures")
    with open(path, "rb") as stream:
        head = stream.read(26)
    if head[1:4] == b"PNG" and len(head) == 26 and head[24] == 16 and head[25] != 0:
        raise ValueError(
            f"{os.fspath(path)} has colours or alpha of 16 bits, which pillow cuts to 8: convert it first."
        )
    try:
        with pillow.open(path) as file:
            file.load()
            converted = {mode: mode for mode in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I")}
            converted |= {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
            converted |= {"P": "RGBA" if "transparency" in file.info else "RGB"}
            if file.mode not in converted:
                raise ValueError(f"{os.fspath(path)} has pixels of kind {file.mode}; convert it to grey or RGB.")
            values = np.asarray(file if file.mode == converted[file.mode] else file.convert(converted[file.mode]))
    except pillow.UnidentifiedImageError as error:
        raise ValueError(f"{os.fspath(path)} is no picture that pillow reads.") from error
    except (SyntaxError, EOFError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged ({error}).") from error
    if values.dtype == np.uint8:
        return values
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
        raise ValueError(f"{os.fspath(path)} holds values beyond 16 bits.")
    return values.astype(np.uint16)


def read_grey(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Return a picture's luma (ITU-R BT.601) from 0 to 1, (height, width), without its alpha; errors as above."""
    values = read_picture(path)
    white = np.float32(np.iinfo(values.dtype).max)
    if values.ndim == 3:
        colours = values.shape[-1] > 2
        values = values[..., :3] @ np.array([0.299, 0.587, 0.114]) if colours else values[..., 0]
    return np.asarray(values / white, dtype=np.float32)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make sure, before any work, that a picture can be written there.

    Raises
    ------
    ValueError
        If the name says no format that pillow writes.
    OSError
        If the folder is not there or cannot be written.
    """
    pillow = require("PIL.Image", "data", "writing pictures")
    target = Path(path)
    pillow.init()
    if pillow.EXTENSION.get(target.suffix.lower()) not in pillow.SAVE:
        raise ValueError(f"{target} names no format of pictures; end it with .png, for example.")
    if not os.access(target.parent, os.W_OK | os.X_OK) or target.is_dir():
        raise OSError(f"{target} cannot be written.")


def write_picture(path: str | os.PathLike[str], image: NDArray[Any]) -> None:
    """Write an image of unsigned integers into a file, whole or not at all.

    Raises
    ------
    ValueError
        If the format cannot hold such an image.
    OSError
        If it cannot be written.
    """
    pillow = require("PIL.Image", "data", "writing pictures")
    pillow.init()
    target = Path(path)
    if image.dtype == np.uint16 and image.ndim == 3:
        raise ValueError("colours of 16 bits cannot be written; convert them to 8 bits.")
    buffer = io.BytesIO()
    try:
        pillow.fromarray(image).save(buffer, format=pillow.EXTENSION[target.suffix.lower()])
    except (OSError, KeyError) as error:
        raise ValueError(f"{target}: this format cannot hold such a picture ({error}); name a .png.") from error
    write_atomically(target, buffer.getbuffer())
