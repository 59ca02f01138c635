# SPDX-License-Identifier: Apache-2.0
"""SimCLR and Barlow Twins beside lightly's: one start, the same views, the same optimizer.

    pip install torch lightly
    python benchmarks/lightly_beside.py --data-dir DIR [--steps 300] [--seeds 0 1 2]
        [--write docs/benchmarks/lightly.md]

Each seed draws the weights and all views once, in Keras; they are stored, and both sides read
them. lightly gives the head and the loss, PyTorch the network, AdamW and the rest. What may differ
is therefore the objective and the optimizer. Data, network, batch and rate are `quality.py`'s.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import textwrap
from typing import Any

import numpy as np
import quality
from keras import Layer, Model, callbacks, ops, utils
from keras.layers import BatchNormalization, Conv2D

from keras_ssl import data, layers, models, optimizers, schedules

STEPS = 300
RATE, DECAY, TEMPERATURE, LAMBD = 2e-3, 1e-4, 0.2, 5e-3
METHODS = ("SimCLR", "BarlowTwins")


class StoredViews(Layer):
    """Two views made beforehand, one above the other in one array `(B, 2 H, W, C)`."""

    def __init__(self, preprocess):
        super().__init__(dtype="float32")
        self.preprocess = preprocess

    def call(self, images, seed=None):
        """The two views, `(B, H, W, C)` each."""
        return list(ops.split(ops.cast(images, "float32"), 2, axis=1))


class Batches(utils.PyDataset):
    """The stored views of every step, in order."""

    def __init__(self, stored):
        super().__init__()
        self.stored = stored

    def __len__(self):
        return len(self.stored)

    def __getitem__(self, index):
        return np.asarray(self.stored[index], "float32")


class Losses(callbacks.Callback):
    """The loss of each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        """Undoes the running mean of the epoch."""
        total = (batch + 1) * float((logs or {})["loss"])
        self.values.append(total - sum(self.values))


def build(method: str, source, seed: int, views: Any) -> Model:
    """Our model with the head that lightly builds."""
    encoder = quality.encoder_for(source.image_shape, seed)
    if method == "SimCLR":
        head = layers.MLP((256, 128), bias="none", last_batch_norm="affine", seed=seed)
        return models.SimCLR(encoder, head, TEMPERATURE, views=views, seed=seed)
    head = layers.MLP((512, 512, 512), bias="last", seed=seed)
    return models.BarlowTwins(encoder, head, LAMBD, views=views, seed=seed)


def store_views(method: str, source, seed: int, steps: int, path: pathlib.Path) -> np.ndarray:
    """Writes the views of all steps, `(steps, B, 2 H, W, C)` float16."""
    name = {"SimCLR": "simclr", "BarlowTwins": "barlow_twins"}[method]
    model = build(method, source, seed, name)
    height, width, channels = source.image_shape
    shape = (steps, quality.BATCH, 2 * height, width, channels)
    stored = np.lib.format.open_memmap(path, "w+", "float16", shape)
    feed = data.EpochData(source, quality.BATCH, seed=seed, drop_remainder=True, labels=False)
    stream = feed.stream(epochs=-(-steps // feed.steps_per_epoch))
    for step, images in zip(range(steps), stream, strict=False):
        stored[step] = np.concatenate([np.asarray(v) for v in model.make_views(images)], axis=1)
    return stored


def rates(steps: int):
    """The schedule of `quality.py`."""
    return schedules.WarmupCosine(RATE, total_steps=steps, warmup_steps=steps // 20)


def train_ours(model: Model, stored: np.ndarray) -> list[float]:
    """Trains on the stored views and returns the losses."""
    model.compile(optimizers.AdamW(rates(len(stored)), weight_decay=DECAY))
    losses = Losses()
    model.fit(Batches(stored), shuffle=False, verbose=0, callbacks=[losses])
    return losses.values


def torch_network(method: str, model: Model):
    """lightly's head on the same network in PyTorch, with the weights of our model."""
    import torch
    from lightly.models.modules import BarlowTwinsProjectionHead, SimCLRProjectionHead

    class Network(torch.nn.Module):
        """The ResNet of `quality.encoder_for`; its parts have the names of the Keras layers."""

        def __init__(self, encoder):
            super().__init__()
            self.stages = 4
            for layer in encoder.layers:
                if isinstance(layer, Conv2D):
                    size, stride = layer.kernel_size[0], layer.strides[0]
                    inner, outer = layer.kernel.shape[2:]
                    part = torch.nn.Conv2d(inner, outer, size, stride, size // 2, bias=False)
                elif isinstance(layer, BatchNormalization):
                    part = torch.nn.BatchNorm2d(layer.gamma.shape[0])
                else:
                    continue
                copy_weights(layer, part)
                self.add_module(layer.name, part)

        def convolve(self, x, prefix, number):
            """Convolution and batch norm."""
            x = getattr(self, f"{prefix}_conv{number}")(x)
            return getattr(self, f"{prefix}_norm{number}")(x)

        def forward(self, x):
            x = torch.relu(self.convolve(x, "stem", ""))
            x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
            for prefix in (f"stage{stage + 1}_block1" for stage in range(self.stages)):
                short = x
                if hasattr(self, f"{prefix}_shortcut_conv"):
                    short = self.convolve(x, f"{prefix}_shortcut", "")
                y = torch.relu(self.convolve(x, prefix, 1))
                x = torch.relu(short + self.convolve(y, prefix, 2))
            return x.mean((2, 3))

    encoder = Network(model.encoder)
    if method == "SimCLR":
        head = SimCLRProjectionHead(model.width, 256, 128)
    else:
        head = BarlowTwinsProjectionHead(model.width, 512, 512)
    kinds = (torch.nn.Linear, torch.nn.BatchNorm1d)
    parts = [part for part in head.layers if isinstance(part, kinds)]
    ours = [layer for layer in model.projector.blocks if layer.weights]
    for layer, part in zip(ours, parts, strict=True):
        copy_weights(layer, part)
    return encoder, head


def copy_weights(layer: Layer, part) -> None:
    """Copies the weights of a Keras layer into the PyTorch module of the same kind."""
    import torch

    weights = [np.asarray(weight) for weight in layer.get_weights()]
    if isinstance(layer, BatchNormalization):
        names = ("weight", "bias", "running_mean", "running_var")
        if (part.eps, 1 - part.momentum) != (layer.epsilon, layer.momentum):
            raise SystemExit(f"{layer.name}: the batch norms have other settings.")
    else:
        names = ("weight", "bias")[: len(weights)]
        weights[0] = np.moveaxis(weights[0], (-1, -2), (0, 1))
    with torch.no_grad():
        for name, value in zip(names, weights, strict=True):
            getattr(part, name).copy_(torch.tensor(value))


def train_theirs(method: str, encoder, head, stored: np.ndarray) -> list[float]:
    """Trains the PyTorch side on the stored views and returns the losses."""
    import torch
    from lightly.loss import BarlowTwinsLoss, NTXentLoss

    criterion = NTXentLoss(TEMPERATURE) if method == "SimCLR" else BarlowTwinsLoss(LAMBD)
    parameters = [*encoder.parameters(), *head.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-7)
    rate, losses = rates(len(stored)), []
    for step in range(len(stored)):
        for group in optimizer.param_groups:
            group["lr"] = float(rate(step))
        first, second = (to_torch(view) for view in np.split(stored[step], 2, axis=1))
        loss = criterion(head(encoder(first)), head(encoder(second)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def to_torch(images: np.ndarray):
    """Channels first, float32."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), "float32"))


def features_of(apply, preprocess, source) -> list[np.ndarray]:
    """What a function makes of the preprocessed training and test images."""
    found = []
    for images in (source.images, source.test.images):
        batches = np.array_split(images, -(-len(images) // 500))
        found.append(np.concatenate([apply(np.asarray(preprocess(b))) for b in batches]))
    return found


def compare(method: str, source, seed: int, steps: int, folder: str) -> dict[str, float]:
    """Trains both sides of one method from one start."""
    import torch

    stored = store_views(method, source, seed, steps, pathlib.Path(folder) / "views.npy")
    utils.set_random_seed(seed)
    preprocess = build(method, source, seed, "simclr").views.preprocess
    model = build(method, source, seed, StoredViews(preprocess))
    encoder, head = torch_network(method, model)
    encoder.eval()

    def ours(images):
        return model.encoder.predict_on_batch(images)

    @torch.no_grad()
    def theirs(images):
        return encoder(to_torch(images)).numpy()

    start = quality.knn(features_of(ours, preprocess, source), source)
    random = quality.knn(features_of(theirs, preprocess, source), source)
    encoder.train()
    losses = train_ours(model, stored), train_theirs(method, encoder, head, stored)
    encoder.eval()
    return {
        "random": start,
        "random_lightly": random,
        "knn": quality.knn(features_of(ours, preprocess, source), source),
        "knn_lightly": quality.knn(features_of(theirs, preprocess, source), source),
        "first_loss": losses[0][0],
        "first_loss_lightly": losses[1][0],
        "last_loss": statistics.mean(losses[0][-20:]),
        "last_loss_lightly": statistics.mean(losses[1][-20:]),
    }


def table(results: dict) -> str:
    """Both sides, mean and standard deviation over seeds, as a Markdown table."""
    head = ("method", "seeds", "side", "kNN", "gain", "first loss", "mean of the last 20 losses")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method, rows in results.items():
        for side, suffix in (("keras_ssl", ""), ("lightly", "_lightly")):
            found = list(rows.values())
            gain = [row[f"knn{suffix}"] - row[f"random{suffix}"] for row in found]
            columns = [[row[f"knn{suffix}"] for row in found], gain]
            columns += [[row[f"{at}_loss{suffix}"] for row in found] for at in ("first", "last")]
            cells = [quality.spread(column, 3) for column in columns]
            lines.append(f"| {' | '.join([method, ', '.join(rows), side, *cells])} |")
    return "\n".join(lines)


def page(results: dict, steps: int) -> str:
    """The page of the documentation."""
    text = (
        "SimCLR and Barlow Twins of this package beside lightly's losses and heads in PyTorch, by "
        "`python benchmarks/lightly_beside.py --data-dir DIR --write docs/benchmarks/lightly.md`. "
        "Each seed draws one start and the views of all steps; both sides copy the start and read "
        f"the stored views. CIFAR-10, network, batch and rate of the page on quality, {steps} "
        "steps of AdamW, kNN on 2,000 test images by one code for both. Mean ± standard deviation "
        "over the seeds; a first loss that agrees says that objective and heads are the same, a "
        "last that the optimizers are."
    )
    return f"# Beside lightly\n\n{chr(10).join(textwrap.wrap(text, 100))}\n\n{table(results)}\n"


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="tfds:cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--write", type=pathlib.Path, help="Markdown file; the JSON lies beside it")
    options = parser.parse_args()
    source = quality.load(options.data, options.data_dir)
    stored = options.write.with_suffix(".json") if options.write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    for method in options.methods:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found = compare(method, source, seed, options.steps, folder)
            found = {name: round(value, 4) for name, value in found.items()}
            results.setdefault(method, {})[str(seed)] = found
            print(method, seed, json.dumps(found), flush=True)
            if options.write and stored:
                stored.write_text(json.dumps(results, indent=1) + "\n")
                options.write.write_text(page(results, options.steps))
    print(table(results))


if __name__ == "__main__":
    main()
