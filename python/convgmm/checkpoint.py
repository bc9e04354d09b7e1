"""A fit that is cut off goes on: what it had reached, in a file.

The file is an .npz archive as those of models are: no pickled objects, a SHA-256 sum, moved into place. Values are
written as they are in memory, so a resumed fit ends with the bits of one that was never cut off.
"""

import hashlib
import importlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .files import write_atomically
from .source import Block, Source

Arrays = dict[str, NDArray[Any]]

#: Most of a fit's time that is spent on writing.
_SHARE_OF_TIME = 0.1


class Identified(Protocol):
    """Samples that can be told from others."""

    @property
    def digest(self) -> str:
        """A SHA-256 sum of all samples and weights."""


class Hashing:
    """A source whose samples' SHA-256 sum is known once they have been read.

    Parameters
    ----------
    source : Source
        Gives the samples.

    Attributes
    ----------
    digest : str
        The sum, when all have been read.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.digest = source, ""

    def read(self) -> None:
        """Read all samples."""
        for _ in self.blocks():
            pass

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks."""
        total = None if self.digest else hashlib.sha256()
        for block in self.source.blocks():
            if total is not None:
                total.update(content(block.samples, block.weight))
            yield block
        if total is not None:
            self.digest = total.hexdigest()


@dataclass
class Checkpoint:
    """The file of one fit.

    Parameters
    ----------
    path : path
        Where.
    belongs_to : dict
        JSON values that name the samples and the parameters of the fit.
    """

    path: str | os.PathLike[str]
    belongs_to: dict[str, Any]
    _earliest: float = 0.0

    def read(self) -> dict[str, Any] | None:
        """Return what was written, None if there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, or belongs to another fit; says to which.
        """
        path = Path(self.path)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            encoded, digest = arrays.pop("header").tobytes(), arrays.pop("sha256").tobytes()
            header = json.loads(encoded)
            whole = digest == _digest(encoded, arrays)
        except Exception as error:  # whatever a damaged archive leads to
            raise ValueError(f"{path} is damaged or not a checkpoint ({error}); remove it.") from error
        if not whole:
            raise ValueError(f"{path} is damaged: its content does not have its SHA-256 sum; remove it.")
        others = [name for name, value in self.belongs_to.items() if header["belongs_to"].get(name) != value]
        if others:
            raise ValueError(
                f"the checkpoint {path} belongs to a fit with other {', '.join(others)}: remove it, or give "
                f"another path."
            )
        state: dict[str, Any] = _decoded(header["state"], arrays)
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Write, unless that was done so lately that it would take more than a tenth of the time."""
        started = time.monotonic()
        if started < self._earliest:
            return
        arrays: Arrays = {}
        header = {"belongs_to": self.belongs_to, "state": _encoded(state, arrays)}
        encoded = json.dumps(header).encode()
        buffer = io.BytesIO()
        sums = {
            "header": np.frombuffer(encoded, dtype=np.uint8),
            "sha256": np.frombuffer(_digest(encoded, arrays), dtype=np.uint8),
        }
        np.savez(buffer, **sums, **arrays)  # type: ignore[arg-type]
        write_atomically(Path(self.path), buffer.getbuffer())
        ended = time.monotonic()
        self._earliest = ended + (ended - started) / _SHARE_OF_TIME

    def remove(self) -> None:
        """Remove the file of a fit that has ended."""
        Path(self.path).unlink(missing_ok=True)


def content(samples: NDArray[Any], weight: NDArray[Any] | None) -> bytes:
    """Return what tells some samples and their weights from others, 32 bytes."""
    total = hashlib.sha256()
    for array in (samples, weight):
        if array is not None:
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.digest()


def _digest(header: bytes, arrays: Arrays) -> bytes:
    total = hashlib.sha256(header)
    for name in sorted(arrays):
        total.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        total.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return total.digest()


def _encoded(value: Any, arrays: Arrays) -> Any:
    """Return values, lists, arrays and the package's dataclasses as JSON values; arrays are added under numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encoded(each, arrays) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _encoded(each, arrays)] for key, each in value.items()]}
    assert is_dataclass(value), value
    of_fields = {each.name: _encoded(getattr(value, each.name), arrays) for each in fields(value)}
    return {"class": [type(value).__module__, type(value).__qualname__], "fields": of_fields}


def _decoded(value: Any, arrays: Arrays) -> Any:
    if not isinstance(value, dict):
        return value
    for kind, make in _DECODERS.items():
        if kind in value:
            return make(value[kind], arrays)
    module, name = value["class"]
    known = getattr(importlib.import_module(module), name) if module.startswith("convgmm.") else None
    if not (isinstance(known, type) and is_dataclass(known)):
        raise ValueError(f"a checkpoint holds no {module}.{name}")
    return known(**{each: _decoded(given, arrays) for each, given in value["fields"].items()})


_DECODERS: dict[str, Callable[[Any, Arrays], Any]] = {
    "float": lambda value, arrays: float.fromhex(value),
    "array": lambda value, arrays: arrays[value],
    "tuple": lambda value, arrays: tuple(_decoded(each, arrays) for each in value),
    "list": lambda value, arrays: [_decoded(each, arrays) for each in value],
    "dict": lambda value, arrays: {key: _decoded(each, arrays) for key, each in value},
}
