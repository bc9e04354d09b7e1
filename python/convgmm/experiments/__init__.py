"""The published experiments, each a short recipe."""

from ._recipes import RECIPES
from ._run import demo, reproduce

__all__ = ["RECIPES", "demo", "reproduce"]
