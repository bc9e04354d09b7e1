"""The published experiments, each a short recipe."""

from ._recipes import RECIPES
from ._run import compare, demo, reproduce

__all__ = ["RECIPES", "compare", "demo", "reproduce"]
