"""Fitted estimators in files: an .npz archive without pickled objects, with a header and a SHA-256 sum.

The archive holds the arrays by their names, ``header``, JSON as bytes, and ``sha256``, the sum over header and arrays:
the archive's own sums miss some damage.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .files import write_atomically

if TYPE_CHECKING:
    from .estimator import Kept

#: Of the format; a file with a larger one is refused.
FORMAT = 1

# What the name of an array ends with that holds Cholesky factors.
_FACTORS = ".factors"

Arrays = dict[str, NDArray[Any]]


def save(estimator: "Kept", path: str | os.PathLike[str], dtype: DTypeLike = np.float64) -> None:
    """Write a fitted estimator; parameters and errors as in `Kept.save`."""
    arrays: Arrays = {}
    header = {"format": FORMAT, "convgmm": version("convgmm"), **describe(estimator, arrays, "")}
    arrays = dict(_stored(name, array, np.dtype(dtype)) for name, array in arrays.items())
    encoded = json.dumps(header).encode()
    buffer = io.BytesIO()
    np.savez(
        buffer,
        header=np.frombuffer(encoded, dtype=np.uint8),
        sha256=np.frombuffer(_digest(encoded, arrays), dtype=np.uint8),
        **arrays,  # type: ignore[arg-type]
    )
    write_atomically(Path(path), buffer.getbuffer())


def load(path: str | os.PathLike[str], expected: "type[Kept]") -> "Kept":
    """Read an estimator of the expected class, or one derived from it; errors as in `Kept.load`."""
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        encoded, digest = arrays.pop("header").tobytes(), arrays.pop("sha256").tobytes()
        header = json.loads(encoded)
        found = int(header["format"])
    except Exception as error:  # whatever a damaged archive leads to
        raise ValueError(f"{os.fspath(path)} is damaged, cut short, or not a saved model ({error}).") from error
    if found > FORMAT:
        raise ValueError(
            f"{os.fspath(path)} was written by convgmm {header.get('convgmm')} in format {found}; this version reads "
            f"formats up to {FORMAT}: install a later one."
        )
    if digest != _digest(encoded, arrays):
        raise ValueError(f"{os.fspath(path)} is damaged: its content does not have the SHA-256 sum that it was given.")
    if header["class"] not in dict(_classes(expected)):
        raise ValueError(f"{os.fspath(path)} holds a {header['class']}, not a {expected.__name__}.")
    return restore(header, dict(_loaded(name, array) for name, array in arrays.items()), "")


def _stored(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> tuple[str, NDArray[Any]]:
    """Return an array as it is kept.

    In float16, matrices that are symmetric and positive definite are the lower triangles of their Cholesky factors:
    the product of these is positive definite whatever the rounding. Everything else is float32 then. What a dtype's
    range or rounding would destroy is kept in the next wider one.
    """
    if array.dtype != np.float64 or dtype == np.float64:
        return name, array
    factors = _cholesky(array)
    if dtype == np.float16 and factors is not None:
        diagonal = np.diagonal(factors, axis1=1, axis2=2)
        if np.finfo(np.float16).tiny <= diagonal.min() and np.abs(factors).max() <= np.finfo(np.float16).max:
            return name + _FACTORS, factors[:, *np.tril_indices(array.shape[1])].astype(np.float16)
    size, limits = np.abs(array[array != 0]), np.finfo(np.float32)
    if size.size and not limits.tiny <= size.min() <= size.max() <= limits.max:
        return name, array
    single = array.astype(np.float32)
    return name, array if factors is not None and _cholesky(single.astype(np.float64)) is None else single


def _cholesky(array: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the factors of matrices (K, D, D) that are symmetric and positive definite, None for other arrays."""
    if array.ndim != 3 or not np.array_equal(array, array.transpose(0, 2, 1)):
        return None
    try:
        return np.asarray(np.linalg.cholesky(array), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def _loaded(name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Return the array that `_stored` made this of."""
    if name.endswith(_FACTORS):
        side = (int(np.sqrt(8 * array.shape[1] + 1)) - 1) // 2
        factors = np.zeros((len(array), side, side))
        factors[:, *np.tril_indices(side)] = array
        products = np.einsum("kij,klj->kil", factors, factors)  # a library's product may depend on its threads
        return name.removesuffix(_FACTORS), (products + products.transpose(0, 2, 1)) / 2
    return name, array.astype(np.float64) if array.dtype == np.float32 else array


def describe(estimator: "Kept", arrays: Arrays, prefix: str) -> dict[str, Any]:
    """Return a fitted estimator as JSON values; its arrays are added under names with the prefix."""
    parameters = {
        name: _encoded(value, name, arrays, f"{prefix}parameter.{name}") for name, value in _kept_parameters(estimator)
    }
    values, of_fit = estimator._fitted_state()
    arrays.update({f"{prefix}{name}": array for name, array in of_fit.items()})
    return {"class": type(estimator).__name__, "parameters": parameters, "fit": values}


def restore(description: dict[str, Any], arrays: Arrays, prefix: str) -> "Kept":
    """Return the estimator that `describe` made a description of."""
    parameters = {name: _decoded(value, arrays) for name, value in description["parameters"].items()}
    estimator = _class(description["class"])(**parameters)
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    estimator._restore(description["fit"], own)
    return estimator


def fingerprint(name: str, value: Any) -> str:
    """Return a text that tells a parameter's value from others.

    Raises
    ------
    TypeError
        If it is neither a plain value nor an array; names it.
    """
    arrays: Arrays = {}
    encoded = json.dumps(_encoded(value, name, arrays, name))
    return hashlib.sha256(_digest(encoded.encode(), arrays)).hexdigest() if arrays else encoded


def _digest(header: bytes, arrays: Arrays) -> bytes:
    total = hashlib.sha256(header)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.digest()


def _classes(base: "type[Kept]") -> "Iterator[tuple[str, type[Kept]]]":
    """Yield a class and those derived from it, by their names."""
    yield base.__name__, base
    for derived in base.__subclasses__():
        yield from _classes(derived)


def _class(name: str) -> "type[Kept]":
    from .estimator import Kept  # noqa: PLC0415 - that module imports this one

    return dict(_classes(Kept))[name]  # type: ignore[type-abstract]


def _encoded(value: Any, name: str, arrays: Arrays, key: str) -> Any:
    """Return a parameter as a JSON value; arrays are added under the key."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.random.RandomState):
        _, keys, place, has_gauss, gauss = value.get_state(legacy=True)
        arrays[key] = np.asarray(keys)
        return {"random_state": key, "place": place, "has_gauss": has_gauss, "gauss": gauss}
    if hasattr(value, "get_params"):
        inner = {each: _encoded(given, each, arrays, f"{key}.{each}") for each, given in _kept_parameters(value)}
        return {"estimator": type(value).__name__, "parameters": inner}
    if isinstance(value, list | tuple) and not _is_numbers(value):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encoded(each, name, arrays, f"{key}.{i}") for i, each in enumerate(value)]}
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"the parameter {name}={value!r} cannot be saved: it is neither a plain value nor an array.")
    arrays[key] = array
    return {"array": key}


def _kept_parameters(estimator: Any) -> "Iterator[tuple[str, Any]]":
    """Yield the parameters of an estimator, but for those that only a running fit asks."""
    left_out = getattr(estimator, "_parameters_of_running", ())
    return ((name, value) for name, value in estimator.get_params(deep=False).items() if name not in left_out)


def _is_numbers(value: Any) -> bool:
    return len(value) > 0 and isinstance(value[0], list | tuple | np.ndarray)


def _decoded(value: Any, arrays: Arrays) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "tuple" in value:
        return tuple(_decoded(each, arrays) for each in value["tuple"])
    if "list" in value:
        return [_decoded(each, arrays) for each in value["list"]]
    if "estimator" in value:
        parameters = {name: _decoded(given, arrays) for name, given in value["parameters"].items()}
        return _class(value["estimator"])(**parameters)
    state = np.random.RandomState()
    state.set_state(("MT19937", arrays[value["random_state"]], value["place"], value["has_gauss"], value["gauss"]))
    return state
