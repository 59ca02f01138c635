# SPDX-License-Identifier: Apache-2.0
"""Trains a small vision transformer with DINO and draws what its class token attends to.

    python examples/attention_maps.py --data folder:PATH --size 64 --steps 2000 --out runs/maps
    python examples/attention_maps.py --data tfds:cifar10 --data-dir DIR

Leaves `before.png` and `after.png` (one row an image: itself, attention, colours of patches),
`encoder.keras` and a TensorBoard folder.
"""

import argparse
from pathlib import Path

import keras

from keras_ssl import backbones, callbacks, data, evaluation, models, optimizers, schedules


def build(image_shape, patch: int, steps: int, warmup: int) -> models.DINO:
    """A DINO model of four blocks."""
    encoder = backbones.VisionTransformer(
        "tiny", image_shape, patch, width=96, depth=4, heads=3, seed=0
    )
    model = models.DINO(
        encoder,
        projector=(512, 512, 64),
        prototypes=1024,
        head_batch_norm=True,
        teacher_temperature=0.02,
        momentum=schedules.CosineMomentum(0.99, total_steps=steps),
        freeze_steps=warmup,
        views="digits" if image_shape[-1] == 1 else "simclr",
        seed=0,
    )
    rate = schedules.WarmupCosine(1e-3, total_steps=steps, warmup_steps=warmup)
    model.compile(optimizers.AdamW(rate, weight_decay=0.04, clipnorm=3.0))
    return model


def draw(model, images, larger: int, path: Path) -> None:
    """Saves a picture; images are enlarged, so that more and smaller patches are seen."""

    def preprocess(x):
        height, width = x.shape[1:3]
        seen = model.views.preprocess(x)
        return keras.ops.image.resize(seen, (height * larger, width * larger), "bicubic")

    keras.utils.save_img(path, evaluation.token_picture(model.encoder, images, preprocess))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Train DINO and draw attention maps.")
    parser.add_argument("--data", default="digits", help="digits, tfds:NAME or folder:PATH")
    parser.add_argument("--data-dir", help="folder of prepared data sets")
    parser.add_argument("--size", type=int, help="side of the images of a folder in pixels")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--patch", type=int, default=4, help="side of a patch in pixels")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--larger", type=int, default=2, help="factor by which pictures are seen")
    parser.add_argument("--out", type=Path, default=Path("runs/maps"))
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    size = {} if options.size is None else {"image_size": options.size}
    source = data.load(options.data, data_dir=options.data_dir, limit=options.images, **size)
    feed = data.EpochData(source, options.batch_size, seed=0, drop_remainder=True)
    every = min(feed.steps_per_epoch, options.steps)
    epochs = max(options.steps // every, 1)
    model = build(source.image_shape, options.patch, epochs * every, every // 2)

    shown = (source if source.test is None else source.test).images[:8]
    options.out.mkdir(parents=True, exist_ok=True)
    draw(model, shown, options.larger, options.out / "before.png")
    board = str(options.out / "tensorboard")
    watch = [
        callbacks.TokenPictures(shown, board),
        callbacks.RepresentationMonitor(source.images[:256], every_steps=every, log_dir=board),
    ]
    model.fit(feed.stream(), epochs=epochs, steps_per_epoch=every, callbacks=watch)
    draw(model, shown, options.larger, options.out / "after.png")
    model.standalone_encoder().save(options.out / "encoder.keras")
    print(f"{options.out}: before.png, after.png, encoder.keras, tensorboard/")


if __name__ == "__main__":
    main()
