"""A process that holds one task and does one repetition when asked.

Requests are lines of JSON on the standard input, answers lines of JSON on what was the standard output.
"""

import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from machine import blas_kernels
from tasks import Task, named


class Holder:
    """Answers requests for one task at a time."""

    task: Task | None = None

    def prepare(self, task: str, arguments: dict[str, Any], threads: int) -> dict[str, Any]:
        """Build the task that "module:class" names, the previous one let go first; answer the kernel of its BLAS."""
        self.task = None
        self.task = named(task)(**arguments)
        threadpool_limits(threads)  # once everything is imported, for all libraries in this process
        more = [pool["internal_api"] for pool in threadpool_info() if pool["num_threads"] > threads]
        if more:
            raise RuntimeError(f"{', '.join(more)} would use more than {threads} threads")
        return {"kernel": blas_kernels()}

    def run(self, least_seconds: float) -> dict[str, Any]:
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
        return {"seconds": statistics.median(seconds[1:] or seconds)}

    def save(self, path: str) -> dict[str, Any]:
        """Write the last repetition's result into an .npz file."""
        assert self.task is not None
        np.savez(path, **self.task.result())
        return {}

    def release(self) -> dict[str, Any]:
        """Let the task and its memory go."""
        self.task = None
        return {}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    holder = Holder()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(holder, request.pop("call"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
