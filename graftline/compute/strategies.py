"""On which devices a training computes its steps: TensorFlow's own distribution strategies."""

from __future__ import annotations

import logging
from typing import Any

from graftline.compute.groups import group_of
from graftline.core.params import ComputeParams

_LOG = logging.getLogger(__name__)


def training_strategy(compute: ComputeParams) -> Any:
    """The strategy of ``tf.distribute`` in whose scope to train.

    To be asked for before anything else is done with TensorFlow: the processes of a group have to
    find each other first, and each waits here for all others.

    Args:
        compute: ``strategy`` and ``deterministic`` are read.

    Returns:
        TensorFlow's default one if there is a single device to work on.

    Raises:
        ParamsError: If ``compute.strategy`` asks for a group and TF_CONFIG names none.
    """
    import tensorflow as tf

    group = group_of(compute)
    if compute.deterministic and tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    if group is not None:
        _LOG.info(
            f"process {group.index + 1} of {len(group.addresses)} that train together waits for "
            "the others"
        )
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = _devices()
    if compute.strategy == "none" or len(devices) == 1:
        return tf.distribute.get_strategy()
    on_gpus = bool(tf.config.list_physical_devices("GPU"))
    # TensorFlow's own choice for one machine, collectives, mixes up two phases with a loop each.
    adding = tf.distribute.NcclAllReduce() if on_gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=adding)


def _devices() -> list[str]:
    """All GPUs; where there are none, the CPU, of which there is one unless it has been divided."""
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]
