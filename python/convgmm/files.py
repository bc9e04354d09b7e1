"""Writing results so that a file is whole or absent, never half."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder if need be, and make sure that files can be written there.

    Raises
    ------
    OSError
        If not; names the folder and the reason.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"the output folder cannot be written ({error.strerror})", str(folder)) from error
    return folder


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write beside the target, then move into place: an interrupt or a full disk leaves what was there.

    Raises
    ------
    OSError
        If it cannot be written; names the target and the reason.
    """
    try:
        target = Path(os.path.realpath(path))  # what a link points to, not the link, is written
        temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:  # with the permissions of any new file
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _synchronise(target.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error


def _synchronise(folder: Path) -> None:
    """Wait until the folder's entries are on the disk, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
