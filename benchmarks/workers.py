"""The side that asks: processes that each hold one implementation."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from machine import FORCING

_SCRIPT = Path(__file__).with_name("worker.py")


class TaskError(Exception):
    """A worker could not do what it was asked."""


class Worker:
    """A process.

    Parameters
    ----------
    level : str or None
        The instruction set that convgmm must use in it, None for its own choice.
    forced : bool
        Whether libraries use the kernels that the environment forces on them, instead of those that they choose.
    """

    def __init__(self, level: str | None, forced: bool) -> None:
        withheld = {"CONVGMM_ISA", *(() if forced else FORCING)}
        environment = {name: value for name, value in os.environ.items() if name not in withheld}
        if level is not None:
            environment["CONVGMM_ISA"] = level
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def prepare(self, task: str, arguments: dict[str, Any], threads: int) -> str:
        """Build a task in the process, untimed, and limit its libraries to so many threads; return BLAS's kernel."""
        return str(self._ask("prepare", task=task, arguments=arguments, threads=threads)["kernel"])

    def run(self, least_seconds: float) -> float:
        """Do one repetition, of several runs until so much time has passed; return a run's seconds."""
        return float(self._ask("run", least_seconds=least_seconds)["seconds"])

    def result(self) -> dict[str, NDArray[Any]]:
        """Return what the last repetition found."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.npz"
            self._ask("save", path=str(path))
            with np.load(path) as stored:
                return dict(stored)

    def release(self) -> None:
        """Let the task go."""
        self._ask("release")

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, call: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"call": call, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise TaskError(f"its process ended with status {status}" + ", perhaps for want of memory" * (status == -9))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TaskError(answer["error"])
        return answer


class Pool:
    """The processes, made when first asked for and kept."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    def worker(self, name: str, level: str | None = None, forced: bool = False) -> Worker:
        """Return the process of this name."""
        if name not in self._workers:
            self._workers[name] = Worker(level, forced)
        return self._workers[name]

    def drop(self, name: str) -> None:
        """End a process, which is made anew when it is asked for again."""
        if name in self._workers:
            self._workers.pop(name).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._workers):
            self.drop(name)
