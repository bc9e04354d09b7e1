"""Which cases are measured: a base case, and sweeps that each vary one thing."""

from dataclasses import dataclass, replace

from measure import QUICK_RULES, Rules


def threads_label(threads: int) -> str:
    """Write a number of threads in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


@dataclass(frozen=True)
class Case:
    """One EM problem: n patches of side × side values, k components, and the threads to use."""

    n: int = 200_000
    side: int = 16
    k: int = 32
    threads: int = 2

    @property
    def label(self) -> str:
        """Name the case in one line."""
        return f"{self.size}, {threads_label(self.threads)}"

    @property
    def size(self) -> str:
        """Name the case but for its threads."""
        return f"N = {self.n:,}, {self.side}×{self.side}, K = {self.k}"


@dataclass(frozen=True)
class Sweep:
    """Cases that differ from the base case in one field."""

    field: str
    title: str
    values: tuple[int, ...]

    def cases(self, base: Case) -> dict[int, Case]:
        """Return the case of each value."""
        return {value: replace(base, **{self.field: value}) for value in self.values}


@dataclass(frozen=True)
class Plan:
    """Everything that a run measures, and how often."""

    base: Case
    sweeps: tuple[Sweep, ...]
    transform_sides: tuple[int, ...]
    product_size: int  # rows and columns of the matrices in the machine's own product
    memory_n: int
    climb_iterations: int  # EM iterations that set the likelihood to be reached
    rules: Rules


def full_plan(threads: int) -> Plan:
    """Return what the published tables hold."""
    return Plan(
        base=Case(threads=threads),
        sweeps=(
            Sweep("k", "components K", (8, 32, 128, 256, 512)),
            Sweep("side", "patch side", (8, 16, 28)),
            Sweep("n", "patches N", (10_000, 50_000, 200_000, 1_000_000)),
            Sweep("threads", "threads", tuple(sorted({1, 2, threads}))),
        ),
        transform_sides=(8, 16, 28),
        product_size=4096,
        memory_n=1_000_000,
        climb_iterations=30,
        rules=Rules(repetitions=9, slow_repetitions=3, slow_seconds=1.5, limit_seconds=8),
    )


def quick_plan(threads: int) -> Plan:
    """Return the same on problems so small that only the working can be judged, not the speed."""
    return Plan(
        base=Case(n=4_000, k=16, threads=threads),
        sweeps=(
            Sweep("k", "components K", (8, 16)),
            Sweep("side", "patch side", (8, 16)),
            Sweep("n", "patches N", (2_000, 4_000)),
            Sweep("threads", "threads", tuple(sorted({1, threads}))),
        ),
        transform_sides=(8, 16),
        product_size=1024,
        memory_n=20_000,
        climb_iterations=5,
        rules=QUICK_RULES,
    )
