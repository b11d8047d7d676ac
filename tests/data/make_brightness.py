"""Makes ``brightness.tflite``: a LiteRT model that tells dark images from bright ones.

Its input and output are those of an exported model, and its answer can be worked out by hand: the
logits are (127.5 - mean) / 16 and the opposite. Committed, so that tests of what surrounds a model
need no TensorFlow; run ``python tests/data/make_brightness.py`` to make it anew.
"""

from pathlib import Path

import tensorflow as tf

IMAGES = tf.TensorSpec([None, None, None, None], tf.uint8)


@tf.function(input_signature=[IMAGES])
def probabilities(images: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])
    logit = (127.5 - mean) / 16
    return tf.nn.softmax(tf.stack([logit, -logit], axis=1))


if __name__ == "__main__":
    concrete = probabilities.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    Path(__file__).with_name("brightness.tflite").write_bytes(converter.convert())
