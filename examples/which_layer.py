# SPDX-License-Identifier: Apache-2.0
"""Which layer of a pre-trained transformer to use: a probe of every block, before and after.

    python examples/which_layer.py --data tfds:cifar10 --data-dir DIR
    python examples/which_layer.py --data folder:PATH --size 32 --method SimCLR

A masked model's last blocks prepare pixels for its decoder, so an earlier one may say more of what
is in the image; a part of the training labels tells which. Leaves `layers.json`, a picture
`layers.png` and the encoder up to the best block, `encoder.keras`.
"""

import argparse
import json
from pathlib import Path

import keras

from keras_ssl import backbones, data, evaluation, models, optimizers, schedules, tokens


def build(method: str, image_shape, patch: int, depth: int, seed: int):
    """A transformer of width 64 in a masked model, or in one that compares views."""
    tokenizer = tokens.PatchTokenizer((patch, patch), 64, seed=seed)
    encoder = backbones.TokenTransformer(
        tokenizer, image_shape, depth, 4, class_token=False, pooling="mean", seed=seed
    )
    if method == "MAE":
        return models.MAE(encoder, decoder=(32, 1, 4), seed=seed)
    return models.SimCLR(encoder, (256, 128), temperature=0.2, seed=seed)


def scores(model, train, test) -> tuple[evaluation.LayerProbe, dict[str, float]]:
    """The probe of every block, and of the last blocks side by side."""
    probe = evaluation.layer_probe(model, train, test)
    found = {f"block {name}": value for name, value in probe.accuracy.items()}
    last = min(4, len(probe.accuracy))
    features = [evaluation.last_blocks_features(model, part[0], last) for part in (train, test)]
    found[f"last {last} side by side"] = evaluation.linear_probe(
        features[0], train[1], features[1], test[1]
    )
    return probe, found


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, tfds:NAME or folder:PATH")
    parser.add_argument("--data-dir", help="folder of prepared data sets")
    parser.add_argument("--size", type=int, help="side of the images of a folder in pixels")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--test-images", type=int, default=2_000)
    parser.add_argument("--method", choices=("MAE", "SimCLR"), default="MAE")
    parser.add_argument("--patch", type=int, default=4, help="side of a patch in pixels")
    parser.add_argument("--depth", type=int, default=6, help="blocks")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/layers"))
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    size = {} if options.size is None else {"image_size": options.size}
    source = data.load(options.data, data_dir=options.data_dir, limit=options.images, **size)
    if source.labels is None or source.test is None:
        raise SystemExit(
            f"{options.data} has no labels or no test part: there is nothing to probe."
        )
    feed = data.EpochData(source, options.batch_size, seed=options.seed, drop_remainder=True)
    shape = source.image_shape
    model = build(options.method, shape, options.patch, options.depth, options.seed)
    steps = options.steps
    rate = schedules.WarmupCosine(1.5e-3, total_steps=steps, warmup_steps=steps // 10)
    model.compile(optimizers.AdamW(rate, beta_2=0.95, weight_decay=0.05))

    train = source.images, source.labels
    test = source.test.images[: options.test_images], source.test.labels[: options.test_images]
    _, before = scores(model, train, test)
    model.fit(feed.stream(), steps_per_epoch=steps, verbose=2)
    probe, after = scores(model, train, test)

    print("| features | untrained | trained |\n|---|---|---|")
    for name, value in after.items():
        print(f"| {name} | {before[name]:.3f} | {value:.3f} |")
    print(f"\nBest on held training labels: block {probe.best}, {probe.accuracy[probe.best]:.3f}")
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"untrained": before, "trained": after, "best": probe.best}
    (options.out / "layers.json").write_text(json.dumps(found, indent=1) + "\n")
    probe.show().save(options.out / "layers.png")
    evaluation.layer_encoder(model, probe.best).save(options.out / "encoder.keras")
    print(f"{options.out}: layers.json, layers.png, encoder.keras")


if __name__ == "__main__":
    main()
