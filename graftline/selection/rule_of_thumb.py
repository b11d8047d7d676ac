"""The textbook's rule of thumb for freezing, so that the race can compare with it."""

from __future__ import annotations

from graftline.core.records import Assembled
from graftline.selection.candidates import Candidate, make_candidate, middle_blocks
from graftline.selection.profile import Profile
from graftline.selection.records import Situation


def textbook_candidate(assembled: Assembled, profile: Profile, situation: Situation) -> Candidate:
    """The rule's plan: the more and the more different the data, the less is inherited.

    small and similar
        The whole backbone is frozen; only the new head trains.
    small and different
        More layers are cut off the end, and only the new head trains.
    large and similar
        The last blocks train too.
    large and different
        Everything trains.
    """
    last = profile.last.layer
    if situation.small and situation.different:
        return make_candidate(assembled, "all", profile.cheapest.layer)
    if situation.small:
        return make_candidate(assembled, "all", last)
    if situation.different:
        return make_candidate(assembled, "none", last)
    return make_candidate(assembled, middle_blocks(assembled, last), last)
