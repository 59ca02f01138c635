# SPDX-License-Identifier: Apache-2.0
"""What the choices of the fused views cost or gain in kNN, one choice at a time.

    python benchmarks/views_effect.py --data-dir DIR [--steps 300] [--seeds 0]

SimCLR in the setting of `quality.py`, with the recipe crop, flip, jitter, grey, normalise. Every
variant differs from the fused pipeline in the named choice alone. kNN on all test images.
"""

import argparse
import statistics

import quality
from keras import ops

from keras_ssl import data, views
from keras_ssl.run import report
from keras_ssl.views import _transform


@_transform.register
class WholePixelCrop(views.RandomResizedCrop):
    """The crop as PIL does it: whole pixels, taps inside the box."""

    def apply(self, images, params, exact=False):
        """Cuts and resizes exactly."""
        return super().apply(images, params, True)


@_transform.register
class ClippedHsvJitter(views.ColorJitter):
    """The jitter as PIL does it: hue in HSV, clipped after every operation."""

    def apply(self, images, params, exact=False):
        """Applies the four exactly."""
        return super().apply(images, params, True)


@_transform.register
class FixedOrderJitter(views.ColorJitter):
    """Brightness, contrast, saturation, hue in this order for every sample."""

    def parameters(self, uniform, image_shape):
        """As drawn, with the positions 0 to 3."""
        params = super().parameters(uniform, image_shape)
        order = ops.broadcast_to(ops.arange(4, dtype="int32"), ops.shape(params["position"]))
        return {**params, "position": order}


def pipeline(
    crop=views.RandomResizedCrop,
    jitter=views.ColorJitter,
    interpolation="bilinear",
    reference="pil",
    **options,
):
    """SimCLR's small-image recipe with one choice changed."""
    members = [
        crop(32, (0.08, 1.0), interpolation=interpolation),
        views.HorizontalFlip(),
        jitter(0.4, 0.4, 0.4, 0.1, 0.8, reference),
        views.Grayscale(0.2),
        views.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    ]
    return views.TwoViews(views.Pipeline(members, **options))


VARIANTS = {
    "fused": {},
    "crop interpolation bicubic": {"interpolation": "bicubic"},
    "whole-pixel box, taps inside it": {"crop": WholePixelCrop, "fused": False},
    "hue in HSV, clipped after each operation": {"jitter": ClippedHsvJitter, "fused": False},
    "contrast towards each channel's mean": {"reference": "tensorflow"},
    "jitter in one fixed order": {"jitter": FixedOrderJitter},
    "all exact, bicubic": {"exact": True, "interpolation": "bicubic"},
}


def knn_after(variant, source, seed, steps):
    """kNN after training with a variant's views."""
    model = quality.build("SimCLR", source, seed, steps, views=pipeline(**VARIANTS[variant]))
    quality.train(model, source, seed, steps)
    return quality.knn(report.features_of(model, source).values(), source)


def main() -> None:
    """Runs what the command line asks for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="tfds:cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    source = data.load(options.data, data_dir=options.data_dir, limit=quality.IMAGES)
    print("| choice | kNN | against fused |\n|---|---:|---:|", flush=True)
    first = None
    for variant in options.variants:
        found = [knn_after(variant, source, seed, options.steps) for seed in options.seeds]
        mean = statistics.mean(found)
        first = mean if first is None else first
        print(f"| {variant} | {mean:.3f} | {mean - first:+.3f} |", flush=True)


if __name__ == "__main__":
    main()
