# SPDX-License-Identifier: Apache-2.0
"""Shows which features deep linear networks learn first: by prediction of latents, and of inputs.

    python examples/jepa_avoids_noisy_features.py --out runs/noisy_features

Two views x and y share features. A feature is told by its covariance E[xy] between the views and by
its regression coefficient E[xy] / E[x²], which is small where it is noisy. An encoder of L linear
layers and one more behind it predict y (reconstruction) or what the encoder, without gradient,
makes of y (joint-embedding prediction). The first learns features in the order of their covariance.
The second, where L > 1, learns first what is little noisy, even at a smaller covariance.

Leaves `learning.png`, features over time as networks learn them (dots) and as the equations say
(lines), and prints when each is learned. The effect needs a moderate start: from 0.1 in place of
0.35 it is gone at three layers.

Source: How JEPA Avoids Noisy Features: The Implicit Bias of Deep Linear Self Distillation Networks,
Littwin et al. 2024.
"""

import argparse
import math
from pathlib import Path

import keras
import numpy as np

from keras_ssl.evaluation import deep_linear_end, deep_linear_learning, deep_linear_start

KINDS = ("jepa", "mae")
START = 0.35
# (covariance, regression coefficient) of the features: a clean one and a noisy one.
FEATURES = ((0.8, 1.2), (1.0, 0.5))


def learned_at(values, times, end) -> np.ndarray:
    """First times at which features have 90 % of their end points; infinite where never."""
    reached = values >= 0.9 * np.asarray(end)[:, None]
    return np.where(reached.any(1), np.asarray(times)[reached.argmax(1)], np.inf)


class Linear(keras.Model):
    """Linear layers and one more, which predict an input or what the layers make of it.

    Args:
        kind: `"jepa"` or `"mae"`.
        depth: layers of the encoder.
        features: of an input.
        start: all layers are the identity times this.
    """

    def __init__(self, kind: str, depth: int, features: int, start: float):
        super().__init__()
        self.kind = kind
        options = {"use_bias": False, "kernel_initializer": keras.initializers.Identity(start)}
        layers = [keras.layers.Dense(features, **options) for _ in range(depth + 1)]
        self.encoder, self.predictor = keras.Sequential(layers[:-1]), layers[-1]
        self.encoder.build((None, features))
        self.predictor.build((None, features))

    def call(self, x):
        """What is predicted of x."""
        return self.predictor(self.encoder(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Half of the squared error of all features."""
        wanted = keras.ops.stop_gradient(self.encoder(y)) if self.kind == "jepa" else y
        return 0.5 * keras.ops.mean(keras.ops.sum(keras.ops.square(y_pred - wanted), axis=-1))

    def product(self) -> np.ndarray:
        """What the encoder makes of each feature."""
        kernels = [np.asarray(layer.kernel) for layer in self.encoder.layers]
        return np.diagonal(np.linalg.multi_dot(kernels) if len(kernels) > 1 else kernels[0]).copy()


def views(covariance, regression, rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two views whose second moments are exactly those that are asked for."""
    covariance, regression = np.asarray(covariance), np.asarray(regression)
    draws = np.random.default_rng(0).normal(size=(rows, 2 * len(covariance)))
    shared, noise = np.split(np.linalg.qr(draws)[0] * np.sqrt(rows), 2, axis=1)
    x = shared * np.sqrt(covariance / regression)
    return x.astype("float32"), (regression * x + 0.1 * noise).astype("float32")


def learn(kind: str, depth: int, covariance, regression, times, rate: float = 0.02):
    """The same as `deep_linear_learning`, of a network that learns by gradient descent."""
    x, y = views(covariance, regression)
    model = Linear(kind, depth, x.shape[1], START)
    span = float(times[1] - times[0])
    steps = math.ceil(span / rate)
    model.compile(keras.optimizers.SGD(span / steps), steps_per_execution=steps)
    many = [np.broadcast_to(part, (steps, *part.shape)).reshape(-1, x.shape[1]) for part in (x, y)]
    found = [model.product()]
    for _ in times[1:]:
        model.fit(*many, batch_size=len(x), shuffle=False, verbose=0)
        found.append(model.product())
    return np.stack(found, axis=1)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--points", type=int, default=25, help="at which networks are looked at")
    parser.add_argument(
        "--rate", type=float, default=0.02, help="largest learning rate of the networks"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/noisy_features"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    covariance, regression = np.transpose(FEATURES)
    figure, axes = pyplot.subplots(
        2, len(options.depths), figsize=(4 * len(options.depths), 6), squeeze=False
    )
    print("90 % learned at:  clean   noisy   of the network: clean   noisy")
    for row, kind in enumerate(KINDS):
        for axis, depth in zip(axes[row], options.depths, strict=True):
            end = deep_linear_end(kind, depth, regression)
            slowest = max(deep_linear_start(depth, *feature, START) for feature in FEATURES)
            last = 1.5 * slowest + 3.0 if kind == "jepa" else 8.0
            fine, coarse = np.linspace(0.0, last, 2001), np.linspace(0.0, last, options.points)
            lines = deep_linear_learning(kind, depth, covariance, regression, fine, START)
            dots = learn(kind, depth, covariance, regression, coarse, options.rate)
            told = [*learned_at(lines, fine, end), *learned_at(dots, coarse, end)]
            print(f"{kind:4}, {depth} layers:  " + "  ".join(f"{time:8.1f}" for time in told))
            for index, name in enumerate(("clean", "noisy")):
                (line,) = axis.plot(fine, lines[index] / end[index], label=name)
                axis.plot(coarse, dots[index] / end[index], "o", ms=3, color=line.get_color())
            predicted = "latents" if kind == "jepa" else "inputs"
            axis.set_title(f"{predicted}, {depth} layer{'s' * (depth > 1)}")
            axis.set_xlabel("time")
            axis.set_ylabel("share of the end point")
            axis.legend()
    figure.tight_layout()
    figure.savefig(options.out / "learning.png", dpi=120)
    print(f"{options.out}: learning.png")


if __name__ == "__main__":
    main()
