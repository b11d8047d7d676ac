"""What is said at the end of a prediction of many files."""

from __future__ import annotations

from graftline.orchestration.predict_run import _labels_told


def test_of_many_classes_those_are_told_that_were_given() -> None:
    assert _labels_told({"cat": 0, "dog": 2}) == ": dog (2), cat (0)"
    many = {str(number): 0 for number in range(3000)}
    assert _labels_told(many) == ""
    assert _labels_told(many | {"7": 1, "9": 1200}) == ": 9 (1,200), 7 (1)"
    told = _labels_told(dict.fromkeys(many, 1))
    assert told.startswith(": 0 (1), 1 (1), ") and told.endswith("11 (1) and 2,988 more classes")
