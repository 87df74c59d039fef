"""The step of `mnist-wgan-gp` in Keras, its original framework: a contender for `twoplayer bench step --against keras`.

Run by the Python of an environment that has TensorFlow, as a file of its own: nothing of twoplayer is imported. Speaks
the lines of JSON of `bench/worker.py`. Graph mode unless told "keras-eager".
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Work until stdin ends."""
    told = json.loads(sys.stdin.readline())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    work = make(told)
    answer({"ready": True})
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(json.loads(line)["times"]):
            work()
        answer({"seconds": time.perf_counter() - begun})


def answer(facts: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def players(told: dict[str, Any]) -> tuple[Any, Any]:
    """Both networks with the recipe's size, widths and blocks."""
    import keras
    from keras import layers

    (channels, height, width), g, d = told["shape"], told["recipe"]["generator"], told["recipe"]["discriminator"]
    first, kernel = (-(-height // 2 ** g["n_blocks"]), -(-width // 2 ** g["n_blocks"])), g["kernel_size"]
    filters = g["n_filters"]
    generator = keras.Sequential([keras.Input((told["recipe"]["latents"]["dim"],))])
    generator.add(layers.Dense(first[0] * first[1] * filters, use_bias=False))
    generator.add(layers.BatchNormalization())
    generator.add(layers.LeakyReLU())
    generator.add(layers.Reshape((*first, filters)))
    for block in range(g["n_blocks"] + 1):
        stride = 1 if block == 0 else 2
        generator.add(
            layers.Conv2DTranspose(max(filters >> block, 1), kernel, strides=stride, padding="same", use_bias=False)
        )
        generator.add(layers.BatchNormalization())
        generator.add(layers.LeakyReLU())
    generator.add(layers.Conv2DTranspose(channels, kernel, padding="same", use_bias=False, activation="tanh"))

    filters, kernel = d["n_filters"], d["kernel_size"]
    discriminator = keras.Sequential([keras.Input((height, width, channels))])
    discriminator.add(layers.Conv2D(filters, kernel, padding="same"))
    discriminator.add(layers.BatchNormalization())
    discriminator.add(layers.LeakyReLU())
    for block in range(d["n_blocks"]):
        discriminator.add(layers.Conv2D(filters << (block + 1), kernel, strides=2, padding="same"))
        discriminator.add(layers.BatchNormalization())
        discriminator.add(layers.LeakyReLU())
        discriminator.add(layers.Dropout(d["dropout"]))
    discriminator.add(layers.Conv2D(1, discriminator.output_shape[1:3]))
    discriminator.add(layers.Flatten())
    return generator, discriminator


def make(told: dict[str, Any]) -> Any:
    """The training step: both gradients at the same parameters, from one fake batch, then both updates."""
    import keras
    import tensorflow as tf

    generator, discriminator = players(told)
    optimizers = [keras.optimizers.Adam(2e-4) for _ in range(2)]
    batch, dim = told["recipe"]["batch_size"], told["recipe"]["latents"]["dim"]
    channels, height, width = told["shape"]
    real = tf.random.uniform((batch, height, width, channels), -1.0, 1.0)

    def step() -> None:
        with tf.GradientTape(persistent=True) as tape:
            fake = generator(tf.random.uniform((batch, dim), -1.0, 1.0), training=True)
            on_real, on_fake = discriminator(real, training=True), discriminator(fake, training=True)
            between = real + tf.random.uniform((batch, 1, 1, 1)) * (tf.stop_gradient(fake) - real)
            with tf.GradientTape() as inner:
                inner.watch(between)
                logits = discriminator(between, training=False)
            slopes = tf.sqrt(tf.reduce_sum(tf.square(inner.gradient(logits, between)), axis=[1, 2, 3]))
            penalty = 10.0 * tf.reduce_mean(tf.square(slopes - 1.0))
            losses = (-tf.reduce_mean(on_fake), tf.reduce_mean(on_fake) - tf.reduce_mean(on_real) + penalty)
        both = (generator, discriminator)
        gradients = [tape.gradient(loss, player.trainable_variables) for loss, player in zip(losses, both, strict=True)]
        for gradient, player, optimizer in zip(gradients, both, optimizers, strict=True):
            optimizer.apply_gradients(zip(gradient, player.trainable_variables, strict=True))

    return step if told["way"] == "keras-eager" else tf.function(step)


if __name__ == "__main__":
    main()
