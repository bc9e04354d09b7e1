"""Formulas as MathML, which browsers draw by themselves: no page fetches a program from elsewhere."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOGGER = logging.getLogger(__name__)


def _written(node: nodes.Element, as_block: bool) -> str:
    # TeX reads one digit as an argument, the converter all that follow one another.
    text = re.sub(r"(\\[td]?frac)\s*(\d)", r"\1{\2}", node.astext())
    text = re.sub(r"(\\[td]?frac\{\d\})(\d)", r"\1{\2}", text)
    try:
        written = tex2mathml(text, as_block=as_block)
        # A norm's bars are as high as a letter, and a function stands a little off its argument.
        written = re.sub(r"<mo( class=.mathopen.)?>([‖|])", r"<mo\1 stretchy='false'>\2", written)
        # A modulus's bars are no relation: nothing stands off them.
        written = re.sub(r"<mo([^>]*)>\|</mo>", r"<mo\1 lspace='0' rspace='0'>|</mo>", written)
        return re.sub(r"<mo>&ApplyFunction;</mo>(?!\s*<mo)", "<mo rspace='0.17em'>&ApplyFunction;</mo>", written)
    except MathError as error:
        _LOGGER.warning("formula %r: %s", node.astext(), error, location=node)
        return ""


def _inline(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(_written(node, as_block=False))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(f'<div class="formula">{_written(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer it under the name "mathml"."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}
