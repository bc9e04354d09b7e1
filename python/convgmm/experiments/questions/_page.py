"""Running the open questions: each is answered once, kept in a folder of its own, and all are one page."""

import base64
import html
import io
import json
import os
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from tqdm.auto import tqdm

from ...configuration import configuration
from ...extras import require
from ...files import writable_folder, write_atomically
from .._recipes import DataDir
from .._report import _STYLE, _table
from . import QUESTIONS, Question, Setting, Sizes

_DPI = 100
_SIZES = Sizes()


def answer_questions(
    out: str | os.PathLike[str], *, data_dir: DataDir = None, seed: int = 0, progress: bool = True
) -> Path:
    """Answer what the published experiments leave open; write ``questions.html`` into the folder ``out/questions``.

    An answer that the folder holds already, with this seed and version, is kept.

    Parameters
    ----------
    out : path
        Folder for all experiments.
    data_dir : path, default=None
        Where the data is, as in `convgmm.datasets`.
    seed : int, default=0
        The first of the seeds.
    progress : bool, default=True
        Whether a progress bar is shown.

    Returns
    -------
    path : Path
        The page, with all tables and pictures.

    Raises
    ------
    ValueError
        If data is damaged.
    OSError
        If the folder cannot be written, or data is missing.
    ImportError
        If an extra is missing.
    """
    require("matplotlib", "plot", "drawing the pictures")
    folder = writable_folder(Path(out) / "questions")
    place = None if data_dir is None else os.fspath(data_dir)
    parts = ["<h1>Mixtures of images: the open questions</h1>"]
    with tqdm(QUESTIONS, desc="questions", unit="question", disable=not progress) as bar:
        for number, question in enumerate(bar, start=1):
            bar.set_postfix(question=question.name)
            own = writable_folder(folder / question.name)
            found = _kept(own, question, seed) or _answered(own, question, place, seed)
            parts += _section(number, question, found, own)
    parts.append("<h2>This machine</h2>")
    parts.append(_table(["", ""], [[name, value] for name, value in configuration().items()]))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>convgmm: the open questions</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    path = folder / "questions.html"
    write_atomically(path, page.encode())
    return path


def _identity(question: Question, seed: int) -> dict[str, Any]:
    return {
        "name": question.name,
        "seed": seed,
        "version": version("convgmm"),
        "n_seeds": question.n_seeds,
        "sizes": asdict(_SIZES),
    }


def _kept(folder: Path, question: Question, seed: int) -> dict[str, Any] | None:
    """Return the answer that the folder holds, if it is to this question. It is written last, and whole."""
    path = folder / "answer.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    identity = _identity(question, seed)
    return found if {key: found.get(key) for key in identity} == identity else None


def _answered(folder: Path, question: Question, data_dir: str | None, seed: int) -> dict[str, Any]:
    (folder / "answer.json").unlink(missing_ok=True)  # what it says would not belong to the new pictures
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all iterations are wanted
        answer = question.answer(Setting(data_dir, range(seed, seed + question.n_seeds), _SIZES))
    for name, figure in answer.figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        write_atomically(folder / f"{name}.png", buffer.getvalue())
    found = {
        **_identity(question, seed),
        "text": answer.text,
        "tables": answer.tables,
        "pictures": list(answer.figures),
        "seconds": time.perf_counter() - started,
    }
    write_atomically(folder / "answer.json", (json.dumps(found, indent=2) + "\n").encode())
    return found


def _section(number: int, question: Question, found: dict[str, Any], folder: Path) -> list[str]:
    parts = [f"<h2 id='{question.name}'>{number}. {html.escape(question.asked)}</h2>"]
    parts.append(f"<p>{html.escape(found['text'])}</p>")
    for caption, (header, *rows) in found["tables"].items():
        parts.append(f"<p>{html.escape(caption)}</p>{_table(header, rows)}")
    for name in found["pictures"]:
        image = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        parts.append(
            f'<figure><img alt="{name}" src="data:image/png;base64,{image}">'
            f"<figcaption>{html.escape(name.replace('-', ' '))}</figcaption></figure>"
        )
    parts.append(f"<p>{found['seconds']:.0f} s.</p>")
    return parts
