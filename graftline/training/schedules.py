"""The learning rate of fine-tuning, step by step."""

from __future__ import annotations

from typing import Any

from graftline.core.params import TuneParams

ENOUGH_STEPS = 64
"""Of tuning: fewer usually take away more than they give (docs/measurements/freezing.md)."""
ENOUGH_HEAD_STEPS = 300
"""Of a head: fewer leave it half trained (docs/measurements/finetuning.md has the figures)."""


def tuning_rate(tune: TuneParams, steps: int, share: float, start: int) -> Any:
    """A rate that rises from zero, and that a cosine takes back to zero.

    Args:
        tune: The section ``tune``; its ``learning_rate`` is the highest rate.
        steps: Of the whole phase.
        share: Of that rate which this group of variables gets.
        start: The step at which the group begins to train; before it the rate is 0.

    Returns:
        A Keras learning-rate schedule.
    """
    import keras
    from keras import ops

    warmup = max(1, round(tune.warmup * steps))

    class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        """The rise begins with the group, the fall with the phase."""

        def __call__(self, step: Any) -> Any:
            at = ops.cast(step, "float32")
            rise = ops.clip((at - start + 1) / warmup, 0.0, 1.0)
            fall = 0.5 * (1 + ops.cos(3.141592653589793 * ops.minimum(at / steps, 1.0)))
            waiting = ops.cast(at < start, "float32")
            return tune.learning_rate * share * rise * fall * (1 - waiting)

    return Rate()
