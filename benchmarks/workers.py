"""Processes that each hold one task and do one repetition when asked: both ends of the pipe, which carries pickles."""

import os
import pickle
import statistics
import subprocess
import sys
import time
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self

from threadpoolctl import threadpool_info, threadpool_limits

from machine import FORCING, blas_kernels


class Task(Protocol):
    """What a worker holds: made with all its setting up."""

    def run(self) -> None:
        """Do the timed work once."""

    def result(self) -> dict[str, Any]:
        """Return what the last run found, as arrays and numbers."""


class TaskError(Exception):
    """A worker could not do what it was asked."""


class Holder:
    """In the process: answers requests for one task at a time."""

    task: Task | None = None

    def prepare(self, task: str, arguments: dict[str, Any], threads: int) -> str:
        """Build the task that "module:class" names, untimed, for so many threads; return the kernels of its BLAS."""
        self.task = None  # the previous one is let go first
        module, _, name = task.partition(":")
        self.task = getattr(import_module(module), name)(**arguments)
        threadpool_limits(threads)  # once everything is imported, for all libraries in this process
        more = [pool["internal_api"] for pool in threadpool_info() if pool["num_threads"] > threads]
        if more:
            raise RuntimeError(f"{', '.join(more)} would use more than {threads} threads")
        return blas_kernels()

    def run(self, least_seconds: float) -> float:
        """Time one repetition: runs in a row until so much time has passed, the median of all but the first.

        After a pause a task's threads are asleep and its data has left the caches; in use, iterations follow one
        another.
        """
        assert self.task is not None
        seconds: list[float] = []
        while not seconds or sum(seconds) < least_seconds:
            started = time.perf_counter()
            self.task.run()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:] or seconds)

    def result(self) -> dict[str, Any]:
        """Return what the last repetition found."""
        assert self.task is not None
        return self.task.result()

    def release(self) -> None:
        """Let the task and its memory go."""
        self.task = None


class Worker:
    """The side that asks.

    Parameters
    ----------
    level : str or None
        The instruction set that convgmm must use in the process, None for its own choice.
    forced : bool
        Whether libraries use the kernels that the environment forces on them, instead of those that they choose.
    """

    def __init__(self, level: str | None, forced: bool) -> None:
        withheld = {"CONVGMM_ISA", *(() if forced else FORCING)}
        environment = {name: value for name, value in os.environ.items() if name not in withheld}
        if level is not None:
            environment["CONVGMM_ISA"] = level
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, call: str, *arguments: Any) -> Any:
        """Return what the `Holder`'s method of this name answers; a TaskError says that it could not."""
        try:
            pickle.dump((call, arguments), self._requests)
            self._requests.flush()
            failed, answer = pickle.load(self._answers)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            status = self._process.wait()
            hint = ", perhaps for want of memory" * (status == -9)
            raise TaskError(f"its process ended with status {status}{hint}") from None
        if failed:
            raise TaskError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        try:
            self._requests.close()
            self._process.wait(timeout=5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._answers.close()


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


def serve() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    holder = Holder()
    while True:
        try:
            call, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = False, getattr(holder, call)(*arguments)
        except Exception as error:
            answer = True, f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    try:
        serve()
    except KeyboardInterrupt:
        sys.exit(130)
