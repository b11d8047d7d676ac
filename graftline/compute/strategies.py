"""On which devices a training computes its steps: TensorFlow's own distribution strategies."""

from __future__ import annotations

import logging
from typing import Any

from graftline.compute.devices import settled_device
from graftline.compute.groups import group_of, taken_port_told
from graftline.core.params import ComputeParams

_LOG = logging.getLogger(__name__)


def training_strategy(compute: ComputeParams) -> Any:
    """The strategy of ``tf.distribute`` in whose scope to train.

    To be asked for before anything else is done with TensorFlow: the processes of a group have to
    find each other first, and each waits here for all others.

    Args:
        compute: ``device``, ``strategy`` and ``deterministic`` are read.

    Returns:
        TensorFlow's default one if there is a single device to work on.

    Raises:
        ParamsError: If ``compute`` asks for a GPU that is not there, or for a group that TF_CONFIG
            does not name.
        WorkerLostError: If this process's port is taken.
    """
    import tensorflow as tf

    group = group_of(compute)
    on_gpus = settled_device(compute.device, deterministic=compute.deterministic) == "gpu"
    if group is not None:
        _LOG.info(
            f"process {group.index + 1} of {len(group.addresses)} that train together waits for "
            "the others"
        )
        with taken_port_told(group):
            return tf.distribute.MultiWorkerMirroredStrategy()
    # The CPU is one device, unless it has been divided.
    found = tf.config.list_logical_devices("GPU" if on_gpus else "CPU")
    devices = [device.name for device in found]
    if compute.strategy == "none" or len(devices) == 1:
        return tf.distribute.get_strategy()
    # TensorFlow's own choice for one machine, collectives, mixes up two phases with a loop each.
    adding = tf.distribute.NcclAllReduce() if on_gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=adding)
