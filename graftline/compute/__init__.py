"""Where the work runs: how many cores there are, and chunks of work on threads or on a cluster."""

from graftline.compute.cores import available_cores
from graftline.compute.engine import map_chunks, working_on
from graftline.compute.parallel import ordered_map
from graftline.compute.work import Arrays, Work, refuse_unseen, resources_of

__all__ = [
    "Arrays",
    "Work",
    "available_cores",
    "map_chunks",
    "ordered_map",
    "refuse_unseen",
    "resources_of",
    "working_on",
]
