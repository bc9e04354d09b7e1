"""The questions that the published experiments end with, each answered by figures and pictures of its own.

Every question is a function from a `Setting` to an `Answer`. Figures are means over seeds, with the standard deviation
where a table says ±; sizes are such that all seven take minutes.
"""

from ._answer import Answer, Question, Setting, Sizes
from ._classes import classes
from ._discrimination import discrimination
from ._layers import concentration, top_down, training
from ._phases import phases
from ._samples import samples

__all__ = ["QUESTIONS", "Answer", "Question", "Setting", "Sizes"]

QUESTIONS = (
    Question(
        "classes",
        "Does training on different subsets of the data (e.g. different classes) give different enough models, which "
        "can be used to discriminate classes?",
        classes,
        1,
    ),
    Question(
        "discrimination",
        "How can we reduce overlap between the filters so that there is more discriminative power? Also can the "
        "filters be made more narrow-band (and is this necessary)?",
        discrimination,
        5,
    ),
    Question("samples", "Generate samples from these models to see what they look like.", samples, 1),
    Question("phases", "How can we reconstruct the filter phases; and is this even important?", phases, 1),
    Question(
        "training",
        "Do we expect that a different training mechanism would better fit these distributions?",
        training,
        10,
    ),
    Question(
        "top-down",
        "Can we also do a top-down training which will take the output from the top layer and use that to refine the "
        "EM training of the lower layers?",
        top_down,
        10,
    ),
    Question(
        "concentration",
        "The third layer seems much more concentrated; some digits span two components.",
        concentration,
        10,
    ),
)
