# SPDX-License-Identifier: Apache-2.0
"""One forward and backward pass of a ViT-Tiny, against the same done bare and in PyTorch.

    python benchmarks/vision_transformer.py [--dtypes float32 bfloat16] [--batch 64] [--repeats 5]
        [--write docs/benchmarks/vision_transformer.md]

32 x 32 images in patches of 4: 65 tokens, 192 features, 12 blocks, 3 heads. "Bare" is the same
arithmetic as one function of TensorFlow operations, without layers; PyTorch runs its fused
attention where it is installed. Every contestant runs once in each round, rounds repeat, and ratios
are of the medians. The outputs of ours and bare are compared first.
"""

import argparse
import os
import pathlib
import statistics
import textwrap
from collections.abc import Callable

# On CPUs without AVX-512 TensorFlow leaves it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

SIDE, PATCH, WIDTH, DEPTH, HEADS = 32, 4, 192, 12, 3


def ours(batch: int, dtype: str, jit: bool) -> tuple[Callable, object]:
    """A step of the package's model, and the model."""
    import keras
    import tensorflow as tf

    from keras_ssl import backbones

    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    model = backbones.VisionTransformer("tiny", (SIDE, SIDE, 3), PATCH, seed=0, dtype=policy)
    images = keras.random.normal((batch, SIDE, SIDE, 3), seed=1)

    @tf.function(jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.cast(model(images, training=True), tf.float32) ** 2)
        return loss, tape.gradient(loss, model.trainable_variables)

    return (lambda: step()[0].numpy()), model


def bare(batch: int, dtype: str, jit: bool, model) -> Callable:
    """The same arithmetic on the same weights, without layers."""
    import keras
    import tensorflow as tf

    images = keras.random.normal((batch, SIDE, SIDE, 3), seed=1)
    weights = [tf.Variable(value) for value in model.get_weights()]
    compute, size = tf.as_dtype(dtype), WIDTH // HEADS

    def norm(x, scale, shift):
        x = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return tf.cast((x - mean) * tf.math.rsqrt(variance + 1e-6) * scale + shift, compute)

    def linear(x, kernel, bias):
        rows = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), tf.cast(kernel, compute))
        return tf.reshape(rows + tf.cast(bias, compute), (*x.shape[:-1], kernel.shape[-1]))

    def block(x, given):
        (
            gamma1,
            beta1,
            qkv,
            qkv_bias,
            out,
            out_bias,
            gamma2,
            beta2,
            rise,
            rise_bias,
            fall,
            fall_bias,
        ) = given
        y = linear(norm(x, gamma1, beta1), qkv, qkv_bias)
        y = tf.transpose(tf.reshape(y, (batch, -1, 3, HEADS, size)), (2, 0, 3, 1, 4))
        scores = tf.matmul(y[0] * size**-0.5, y[1], transpose_b=True)
        shares = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), compute)
        mixed = tf.transpose(tf.matmul(shares, y[2]), (0, 2, 1, 3))
        x = x + linear(tf.reshape(mixed, (batch, -1, WIDTH)), out, out_bias)
        y = linear(norm(x, gamma2, beta2), rise, rise_bias)
        return x + linear(tf.nn.gelu(y, approximate=False), fall, fall_bias)

    def forward(by_name):
        grid = SIDE // PATCH
        x = tf.reshape(images, (batch, grid, PATCH, grid, PATCH, 3))
        x = tf.reshape(tf.transpose(x, (0, 1, 3, 2, 4, 5)), (batch, grid * grid, PATCH * PATCH * 3))
        x = linear(tf.cast(x, compute), *by_name["tokenizer"]) + tf.cast(
            by_name["positions"], compute
        )
        token = tf.broadcast_to(tf.cast(by_name["prefix"], compute), (batch, 1, WIDTH))
        x = tf.concat([token, x], axis=1)
        for given in by_name["blocks"]:
            x = block(x, given)
        return norm(x, *by_name["norm"])[:, 0]

    @tf.function(jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.cast(forward(named(model, weights)), tf.float32) ** 2)
        return loss, tape.gradient(loss, weights)

    return lambda: step()[0].numpy()


def named(model, weights: list) -> dict:
    """The weights by what they are for, in the order of the arithmetic."""
    paths = [variable.path.split("/") for variable in model.weights]
    found = {
        name: [w for p, w in zip(paths, weights, strict=True) if p[0] == name]
        for name in ("tokenizer", "positions", "prefix", "norm")
    }
    order = (
        "attention_norm/gamma",
        "attention_norm/beta",
        "qkv/kernel",
        "qkv/bias",
        "out/kernel",
        "out/bias",
        "feed_forward_norm/gamma",
        "feed_forward_norm/beta",
        "rise/kernel",
        "rise/bias",
        "fall/kernel",
        "fall/bias",
    )
    blocks = [
        [
            next(
                w
                for p, w in zip(paths, weights, strict=True)
                if p[0] == f"block{index + 1}" and "/".join(p).endswith(end)
            )
            for end in order
        ]
        for index in range(DEPTH)
    ]
    single = {"positions": found["positions"][0], "prefix": found["prefix"][0]}
    return found | single | {"blocks": blocks}


def pytorch(batch: int, dtype: str) -> Callable | None:
    """A step of the same network in PyTorch with its fused attention, None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.LayerNorm(WIDTH, 1e-6) for _ in range(2))
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.rise, self.fall = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            parts = self.qkv(self.first(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS))
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            return x + self.fall(functional.gelu(self.rise(self.second(x))))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = nn.Conv2d(3, WIDTH, PATCH, PATCH)
            self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.positions = nn.Parameter(0.02 * torch.randn(1, (SIDE // PATCH) ** 2, WIDTH))
            self.blocks, self.norm = (
                nn.Sequential(*(Block() for _ in range(DEPTH))),
                nn.LayerNorm(WIDTH),
            )

        def forward(self, x):
            x = self.tokenizer(x).flatten(2).transpose(1, 2) + self.positions
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
            return self.norm(self.blocks(x))[:, 0]

    network, images = Network(), torch.randn(batch, 3, SIDE, SIDE)
    half = dtype != "float32"

    def step():
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = (network(images).float() ** 2).mean()
        loss.backward()
        return loss.item()

    return step


def main() -> None:
    """Runs what the command line asks for."""
    # It imports TensorFlow, for which the variable above must be set.
    from train_step import measure

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="Markdown file for the table")
    options = parser.parse_args()
    lines = ["| dtype | step | seconds | ours against it |", "|---|---|---|---|"]
    for dtype in options.dtypes:
        contestants: dict[str, Callable] = {}
        for jit in (False, True):
            name = "compiled" if jit else "graph"
            contestants[f"ours, {name}"], model = ours(options.batch, dtype, jit)
            contestants[f"bare, {name}"] = bare(options.batch, dtype, jit, model)
            first, second = (contestants[f"{who}, {name}"]() for who in ("ours", "bare"))
            assert abs(first - second) <= 2e-2 * abs(second), (first, second)
        peer = pytorch(options.batch, dtype)
        if peer is not None:
            contestants["PyTorch"] = peer
        times = measure(contestants, warm_up=2, repeats=options.repeats)
        found = {name: statistics.median(seconds) for name, seconds in times.items()}
        best = min(seconds for name, seconds in found.items() if name.startswith("ours"))
        for name, seconds in found.items():
            own = found["ours" + name[4:]] if name.startswith("bare") else best
            ratio = "" if name.startswith("ours") else f"{seconds / own:.2f}"
            lines.append(f"| {dtype} | {name} | {seconds:.3f} | {ratio} |")
            print(lines[-1], flush=True)
    if options.write:
        command = f"python benchmarks/vision_transformer.py --write {options.write}"
        text = (
            f"A forward and a backward pass of a ViT-Tiny on {options.batch} images of {SIDE} x "
            f"{SIDE} in patches of {PATCH} ({(SIDE // PATCH) ** 2 + 1} tokens, {WIDTH} features, "
            f"{DEPTH} blocks), by `{command}` on {os.cpu_count()} CPU cores: median seconds of "
            f"{options.repeats} rounds in which all take turns. Bare is the same arithmetic as one "
            "function without layers; PyTorch is the same network with its fused attention, run "
            "eagerly. A ratio above 1 says that ours is faster: against bare in the same mode, "
            "against PyTorch by the faster of ours. On a CPU without instructions for bfloat16 "
            "PyTorch's emulation of it is slow, and no measure."
        )
        page = ["# A vision transformer's step", "\n".join(textwrap.wrap(text, 100))]
        pathlib.Path(options.write).write_text("\n\n".join([*page, "\n".join(lines)]) + "\n")


if __name__ == "__main__":
    main()
