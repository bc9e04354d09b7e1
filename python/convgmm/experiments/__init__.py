"""The published experiments, each a short recipe."""

from ._prior import train_prior
from ._recipes import RECIPES
from ._report import compare, write_report
from ._run import demo, repeat, reproduce
from .questions._page import answer_questions

__all__ = [
    "RECIPES",
    "answer_questions",
    "compare",
    "demo",
    "repeat",
    "reproduce",
    "train_prior",
    "write_report",
]
