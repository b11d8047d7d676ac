"""The option ``--model``, the same at every door; see :mod:`graftline.inference.model_choice`.

Apart from that, since a parser is made before anything else is imported.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser


def add_model_option(parser: ArgumentParser) -> None:
    """Adds ``--model``."""
    parser.add_argument(
        "--model",
        type=os.path.expanduser,  # A shell leaves the ~ of --model=~/x as it is.
        metavar="VERSION|ALIAS|FOLDER",
        help="a registered version's number, an alias such as challenger, or a model's folder such "
        "as models/trained (default: the champion; where there is none, the last trained model)",
    )
