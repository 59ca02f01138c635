# SPDX-License-Identifier: Apache-2.0
"""Pre-trains an encoder on a folder of images and saves it for other work.

    python examples/own_images.py --folder ~/pictures --size 64 --epochs 100

The folder may hold class folders, which are used for a score at the end and for nothing else, or
images side by side. Without --folder the program writes the handwritten digits into a temporary
folder and takes that.
"""

import argparse
import tempfile
from pathlib import Path

import keras

import keras_ssl
from keras_ssl import backbones, data, evaluation


def write_digits(folder: Path) -> Path:
    """Writes the digits as PNG files into class folders, to have something to read."""
    from PIL import Image

    digits = data.load("digits", split="all", channels=3)
    for index, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        path = folder / f"digit_{label}" / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def pretrain(folder: Path, size: int, epochs: int, batch_size: int, out: Path) -> None:
    """Loads the folder, trains SimCLR on it and saves the encoder."""
    keras.utils.set_random_seed(0)
    source = data.load(f"folder:{folder}", image_size=size, on_corrupt="skip")
    print(f"{len(source)} images {source.image_shape}, {len(source.skipped)} skipped")

    model = keras_ssl.models.SimCLR(
        backbones.ConvNet(source.image_shape), temperature=0.2, views="simclr", seed=0
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    # A smaller last batch would have fewer negatives than the others.
    batches = data.EpochData(source, min(batch_size, len(source)), seed=0, drop_remainder=True)
    model.fit(batches.stream(), steps_per_epoch=batches.steps_per_epoch, epochs=epochs)

    encoder = model.standalone_encoder(preprocessing=True)
    encoder.save(out)
    print(f"The encoder takes raw images {source.image_shape}; saved as {out}")
    if source.test is not None:
        train = evaluation.extract_features(encoder, source.images)
        test = evaluation.extract_features(encoder, source.test.images)
        k = min(20, len(train))
        score = evaluation.knn_accuracy(train, source.labels, test, source.test.labels, k=k)
        print(f"kNN accuracy on {len(test)} images held out: {score:.3f}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Pre-train an encoder on a folder of images.")
    parser.add_argument("--folder", type=Path, help="class folders or images side by side")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("encoder.keras"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_digits(Path(scratch))
        pretrain(folder, options.size, options.epochs, options.batch_size, options.out)


if __name__ == "__main__":
    main()
