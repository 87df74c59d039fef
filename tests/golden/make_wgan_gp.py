"""Makes wgan_gp.npz with Keras: what the players of `mnist-wgan-gp` answer and become in the original framework.

    python -m venv tf && tf/bin/pip install tensorflow-cpu
    tf/bin/python tests/golden/make_wgan_gp.py

Made with tensorflow-cpu 2.21.0, keras 3.15.1. The tests read the file and need no TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))
from inputs import BATCH, LATENT_DIM, STEPS, interpolation, keras_weights, latents, real_images, sampled_places
from keras import layers

PENALTY_WEIGHT = 10.0
LEARNING_RATE = 2e-4
KINDS = {"gamma": "gamma", "beta": "beta", "moving_mean": "mean", "moving_variance": "variance", "bias": "bias"}


def use_dtype(name: str) -> None:
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)


def build_generator() -> keras.Model:
    model = keras.Sequential([keras.Input((LATENT_DIM,)), layers.Dense(7 * 7 * 128, use_bias=False)])
    model.add(layers.BatchNormalization())
    model.add(layers.LeakyReLU())
    model.add(layers.Reshape((7, 7, 128)))
    for filters, strides in ((128, 1), (64, 2), (32, 2)):
        model.add(layers.Conv2DTranspose(filters, 5, strides=strides, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.LeakyReLU())
    model.add(layers.Conv2DTranspose(1, 5, strides=1, padding="same", use_bias=False, activation="tanh"))
    return model


def build_discriminator() -> keras.Model:
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(64, 5, padding="same")])
    model.add(layers.BatchNormalization())
    model.add(layers.LeakyReLU())
    for filters in (128, 256):
        model.add(layers.Conv2D(filters, 5, strides=2, padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.LeakyReLU())
        model.add(layers.Dropout(0.0))
    model.add(layers.Conv2D(1, 7))
    model.add(layers.Flatten())
    return model


def fill(model: keras.Model, seed: int) -> None:
    shapes = [(KINDS.get(weight.name, "kernel"), tuple(weight.shape)) for weight in model.weights]
    model.set_weights(keras_weights(shapes, seed))


def players() -> tuple[keras.Model, keras.Model]:
    generator, discriminator = build_generator(), build_discriminator()
    fill(generator, 1)
    fill(discriminator, 2)
    return generator, discriminator


def gradient_penalty(discriminator: keras.Model, real: tf.Tensor, fake: tf.Tensor, mix: tf.Tensor) -> tf.Tensor:
    between = real + mix * (fake - real)
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = discriminator(between, training=False)
    slopes = tf.sqrt(tf.reduce_sum(tf.square(tape.gradient(logits, between)), axis=[1, 2, 3]))
    return PENALTY_WEIGHT * tf.reduce_mean(tf.square(slopes - 1.0))


def answers() -> dict[str, np.ndarray]:
    """float32: outputs in both modes, losses and penalty. Training mode goes last: it moves the statistics."""
    use_dtype("float32")
    generator, discriminator = players()
    z, real = tf.cast(latents(0), "float32"), tf.cast(real_images(0), "float32")
    mix = tf.cast(interpolation(0), "float32")
    golden = {
        "generator_inference": generator(z, training=False),
        "discriminator_inference": discriminator(real, training=False),
        "penalty": gradient_penalty(discriminator, real, generator(z, training=False), mix),
        "generator_training": generator(z, training=True),
        "discriminator_training": discriminator(real, training=True),
    }
    fake_logits = discriminator(golden["generator_training"], training=True)
    golden["loss_real"] = -tf.reduce_mean(golden["discriminator_training"])
    golden["loss_fake"] = tf.reduce_mean(fake_logits)
    golden["loss_generator"] = -tf.reduce_mean(fake_logits)
    return {name: np.asarray(value) for name, value in golden.items()}


def three_steps() -> dict[str, np.ndarray]:
    """float64: entries of every weight and statistic after three simultaneous steps, and each one's norm."""
    use_dtype("float64")
    generator, discriminator = players()
    # As numpy numbers the decays stay float64; Python floats pass through float32, which changes an update by 5e-6.
    decays = {"beta_1": np.float64(0.9), "beta_2": np.float64(0.999)}
    optimizers = [keras.optimizers.Adam(LEARNING_RATE, **decays) for _ in range(2)]
    for step in range(STEPS):
        real, mix = tf.constant(real_images(step)), tf.constant(interpolation(step))
        with tf.GradientTape(persistent=True) as tape:
            fake = generator(tf.constant(latents(step)), training=True)
            on_real, on_fake = discriminator(real, training=True), discriminator(fake, training=True)
            penalty = gradient_penalty(discriminator, real, tf.stop_gradient(fake), mix)
            losses = (-tf.reduce_mean(on_fake), tf.reduce_mean(on_fake) - tf.reduce_mean(on_real) + penalty)
        gradients = [
            tape.gradient(loss, player.trainable_variables)
            for loss, player in zip(losses, (generator, discriminator), strict=True)
        ]
        for optimizer, gradient, player in zip(optimizers, gradients, (generator, discriminator), strict=True):
            optimizer.apply_gradients(zip(gradient, player.trainable_variables, strict=True))
    golden = {}
    for role, player in (("generator", generator), ("discriminator", discriminator)):
        for index, weight in enumerate(player.get_weights()):
            golden[f"{role}_{index}_entries"] = weight.ravel()[sampled_places(weight.size)]
            golden[f"{role}_{index}_norm"] = np.linalg.norm(weight)
    return golden


if __name__ == "__main__":
    assert real_images(0).shape[0] == BATCH
    generator, discriminator = players()
    counts = np.array([generator.count_params(), discriminator.count_params()])
    np.savez_compressed(Path(__file__).parent / "wgan_gp.npz", counts=counts, **answers(), **three_steps())
