# SPDX-License-Identifier: Apache-2.0
"""Trains a small encoder on digits and writes all that can be watched to TensorBoard.

    python examples/watch_a_run.py --out runs/convnet
    python examples/watch_a_run.py --encoder transformer --out runs/transformer
    tensorboard --logdir runs

The convolutional network learns by BYOL, the vision transformer by MoCo v3; "Custom Scalars" has
the curves, "Images" the pictures, and "Projector" the representations.
"""

import argparse
from pathlib import Path

import keras

from keras_ssl import backbones, callbacks, data, models, optimizers, schedules


def build(encoder: str, image_shape, steps: int):
    """A model with schedules of `steps` updates."""
    shared = {"momentum": schedules.CosineMomentum(0.99, total_steps=steps), "views": "digits"}
    if encoder == "convnet":
        network = backbones.ConvNet(image_shape, (32, 64), seed=0)
        model = models.BYOL(network, (256, 64), (256, 64), seed=0, **shared)
    else:
        network = backbones.VisionTransformer(
            "tiny", image_shape, patch=4, width=96, depth=3, heads=3, seed=0
        )
        model = models.MoCoV3(network, (256, 64), (256, 64), temperature=0.2, seed=0, **shared)
    rate = schedules.WarmupCosine(1e-3, total_steps=steps, warmup_steps=steps // 10)
    decay = schedules.CosineRamp(0.04, 0.1, total_steps=steps)
    model.compile(optimizers.AdamW(rate, weight_decay=decay, clipnorm=3.0))
    return model


def watchers(model, source, log_dir: Path, every: int) -> list:
    """Everything that watches; pictures come every few epochs."""
    bank, held = source.take(500), source.test.take(300)
    labelled = (bank.images, bank.labels), (held.images, held.labels)
    pictures = {"labels": held.labels, "every": every}
    found = [
        callbacks.OnlineKNN(*labelled, every=every, log_dir=log_dir),
        callbacks.OnlineProbe(*labelled, every=every, log_dir=log_dir),
        callbacks.RepresentationMonitor(held.images, log_dir=log_dir),
        callbacks.ViewPictures(source.images, log_dir, every=every),
        callbacks.NeighbourPictures(held.images, log_dir, queries=5, **pictures),
        callbacks.MapPictures(held.images, log_dir, method="tsne", **pictures),
        callbacks.EmbeddingProjector(held.images, log_dir, **pictures),
    ]
    if isinstance(model, models.MoCoV3):
        found.append(callbacks.TokenPictures(held.images[:5], log_dir, every=every))
    found.append(callbacks.TrainingBoard(log_dir, every_steps=4, gradient_norms=True))
    return found


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Watch a run on digits.")
    parser.add_argument("--encoder", choices=("convnet", "transformer"), default="convnet")
    parser.add_argument("--images", type=int, default=1500, help="training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=5, help="epochs between pictures")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/watched"))
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    source = data.load("digits", limit=options.images)
    feed = data.EpochData(source, options.batch_size, seed=0, drop_remainder=True)
    model = build(options.encoder, source.image_shape, options.epochs * feed.steps_per_epoch)
    model.fit(
        feed.stream(),
        epochs=options.epochs,
        steps_per_epoch=feed.steps_per_epoch,
        callbacks=watchers(model, source, options.out, options.every),
        verbose=2,
    )
    print(f"Look at it with: tensorboard --logdir {options.out}")


if __name__ == "__main__":
    main()
