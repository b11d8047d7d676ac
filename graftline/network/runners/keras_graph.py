"""Inference with TensorFlow, for GPUs: a Keras network, traced once, its weights as constants.

Raw uint8 images cross the bus, and are enlarged and scaled on the device. Of several batches that
are under way, one is copied while the other is computed
(:meth:`graftline.network.runners.runner.Runner.run_all`).

On one machine the same images in batches of the same size give the same bytes. The size of a batch
may change the last digits, since libraries take other kernels for other sizes. Batches are
therefore as large as the bounds below allow, and no measurement of time decides on them; only where
a card's memory is too short for one are they halved.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.compute import devices
from graftline.core.checksums import verify
from graftline.core.errors import UserError, unusable_output
from graftline.core.records import ComputedIn
from graftline.network.precision import computing_in
from graftline.network.runners.runner import UNDER_WAY, Runner

_LOG = logging.getLogger(__name__)
_INPUT, _OUTPUT = "images", "runner_output"
_GPU_IMAGES, _GPU_BYTES = 1024, 512 << 20
_CPU_IMAGES = 128
"""More are slower where the maps leave the cache."""


def convert_to_graph(function: Any, network: Any, precision: ComputedIn) -> bytes:
    """A network as TensorFlow's graph, for :class:`KerasRunner`.

    Args:
        function: From a uint8 tensor (n, height, width, channels) to one float32 tensor, or to
            several.
        network: The Keras model in it whose layers compute in this precision; all else computes in
            float32.
        precision: Of 16 bits, or of 32.

    Returns:
        A serialized graph without variables.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def named(images: Any) -> list[Any]:
        outputs = function(images)
        each = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [
            tf.identity(tf.cast(one, tf.float32), name=f"{_OUTPUT}_{at}")
            for at, one in enumerate(each)
        ]

    signature = [tf.TensorSpec((None, None, None, None), tf.uint8, name=_INPUT)]
    with computing_in(precision, network):
        traced = tf.function(named, input_signature=signature).get_concrete_function()
    graph: bytes = (
        convert_variables_to_constants_v2(traced).graph.as_graph_def().SerializeToString()
    )
    return graph


class KerasRunner(Runner):
    """Runs one graph of :func:`convert_to_graph`, on a GPU where TensorFlow has one.

    Args:
        path: The graph's file.
        precision: As it was converted; it says whether a GPU may round float32 to TF32.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If the file is absent or no such graph.
    """

    title = "TensorFlow"

    def __init__(self, path: Path, precision: ComputedIn) -> None:
        import tensorflow as tf

        verify(path)
        graph = tf.compat.v1.GraphDef()
        try:
            graph.ParseFromString(path.read_bytes())
            imported = tf.compat.v1.wrap_function(
                lambda: tf.graph_util.import_graph_def(graph, name=""), []
            )
            count = sum(node.name.startswith(f"{_OUTPUT}_") for node in graph.node)
            places = [f"{_OUTPUT}_{at}:0" for at in range(count)]
            outputs = [imported.graph.get_tensor_by_name(place) for place in places]
            self._function: Any = imported.prune(f"{_INPUT}:0", outputs)
        # protobuf and TensorFlow answer broken files with errors of many kinds.
        except Exception as error:
            raise unusable_output(path, "is absent or no graph of TensorFlow") from error
        self.output_dims = tuple(int(one.shape[-1]) for one in outputs)
        self._tensor, self._out_of_memory = tf.constant, tf.errors.ResourceExhaustedError
        self.most_images = _CPU_IMAGES
        if devices.gpus():
            self.most_images, self.most_bytes = _GPU_IMAGES, _GPU_BYTES
        self._batch = self.most_images
        self._turns = threading.BoundedSemaphore(UNDER_WAY)
        # One switch of the process, which the training loop has another use for.
        self._switch = tf.config.experimental.enable_tensor_float_32_execution
        self._before = tf.config.experimental.tensor_float_32_execution_enabled()
        self._switch(precision == "tensorfloat32")

    def run_outputs(self, images: NDArray[np.uint8], count: int) -> list[NDArray[np.float32]]:
        """See :meth:`graftline.network.runners.runner.Runner.run_outputs`.

        Raises:
            UserError: If the device's memory is too short for a single image.
        """
        batch = self._batch
        try:
            pieces = [images[at : at + batch] for at in range(0, len(images), batch)]
            # As many threads as there are cores may ask at once, and a card has one memory.
            with self._turns:
                # All are started before the first is waited for.
                begun = [self._function(self._tensor(piece))[:count] for piece in pieces]
                return [
                    np.concatenate([np.asarray(one) for one in output])
                    for output in zip(*begun, strict=True)
                ]
        except self._out_of_memory as error:
            if batch == 1:
                raise UserError(
                    "the GPU's memory is too short for a single image",
                    where="compute.device",
                    fix="end what else uses the GPU (nvidia-smi tells), or set compute.device to "
                    "cpu",
                ) from error
            # Another thread may have found out already.
            self._batch = self.most_images = min(self._batch, batch // 2)
            _LOG.info("the GPU's memory is too short for %d images at once; %d", batch, self._batch)
        return self.run_outputs(images, count)

    def close(self) -> None:
        """Lets the graph go."""
        self._switch(self._before)
        del self._function
