"""Makes ``brightness.tflite`` and ``brightness_features.tflite``: dark images from bright ones.

Their input and first output are those of an exported model, and its answer can be worked out by
hand: the logits are (127.5 - mean) / 16 and the opposite. The second one gives features as well,
(n, 4): the mean grey of the whole image and of its first row, its darkest and its brightest value.
Committed, so that tests of what surrounds a model need no TensorFlow; run
``python tests/data/make_brightness.py`` to make it anew.
"""

from pathlib import Path

import tensorflow as tf

IMAGES = tf.TensorSpec([None, None, None, None], tf.uint8)


@tf.function(input_signature=[IMAGES])
def probabilities(images: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])
    logit = (127.5 - mean) / 16
    return tf.nn.softmax(tf.stack([logit, -logit], axis=1))


@tf.function(input_signature=[IMAGES])
def probabilities_and_features(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    values = tf.cast(images, tf.float32)
    axes = [1, 2, 3]
    features = [
        tf.reduce_mean(values, axes),
        tf.reduce_mean(values[:, :1], axes),
        tf.reduce_min(values, axes),
        tf.reduce_max(values, axes),
    ]
    return probabilities(images), tf.stack(features, axis=1)


if __name__ == "__main__":
    for function, name in (
        (probabilities, "brightness.tflite"),
        (probabilities_and_features, "brightness_features.tflite"),
    ):
        concrete = function.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
        Path(__file__).with_name(name).write_bytes(converter.convert())
