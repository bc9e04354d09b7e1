"""A strict reader of the IDX format, in which handwritten digits are published.

A file is two zero bytes, a type code, the number of axes, each axis as a big-endian 32-bit integer, then the values
(http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, n_axes: int) -> tuple[NDArray[np.uint8], bytes]:
    """Read unsigned bytes with `n_axes` axes from an IDX file, plain or gzip.

    Returns
    -------
    values : ndarray of uint8, read-only
    content : bytes
        The unpacked file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, cut short, longer than its header says, or of another type; names the file and why.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or truncated gzip file ({error}); get it again.") from error
    header = 4 + 4 * n_axes
    if len(content) < header:
        raise ValueError(f"{path} is truncated: {len(content)} bytes do not hold an IDX header of {header}.")
    if content[0] != 0 or content[1] != 0:
        raise ValueError(f"{path} is not an IDX file: it starts with {content[:4].hex(' ')}.")
    if content[2] != _UNSIGNED_BYTE:
        raise ValueError(f"{path} holds values of IDX type 0x{content[2]:02x}; unsigned bytes (0x08) are expected.")
    if content[3] != n_axes:
        raise ValueError(f"{path} has {content[3]} axes where {n_axes} are expected: is it the right file?")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=n_axes, offset=4))
    expected = header
    for size in shape:
        if size == 0:
            raise ValueError(f"{path} has an empty axis: its header says {shape}.")
    expected += int(np.prod(shape, dtype=object))
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "oversized"
        raise ValueError(f"{path} is {problem}: {len(content)} bytes where its header {shape} needs {expected}.")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape), content
