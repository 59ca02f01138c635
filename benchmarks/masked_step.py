# SPDX-License-Identifier: Apache-2.0
"""A step of MAE: operations and time over the mask ratio, beside bare blocks and PyTorch.

    python benchmarks/masked_step.py [--batch 256] [--repeats 5] [--write
        docs/benchmarks/masked_step.md]

A ViT-Tiny on 32 x 32 images in patches of 4 (64 tokens) and a decoder of width 96 with four blocks.
"Bare" runs the same blocks on as many random tokens, without tokenizer, mask, target and decoder
tokens. PyTorch has the layout of the released code: shuffle, cut, restore. Every contestant runs
once in each round, and ratios are of the medians.
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
DECODER = (96, 4, 3)
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
TOKENS, VALUES = (SIDE // PATCH) ** 2, 3 * PATCH**2


def macs(visible: int) -> int:
    """Multiply-accumulates of the forward pass of one image, of matrix products."""

    def blocks(count, tokens, width):
        return count * (12 * tokens * width**2 + 2 * tokens**2 * width)

    width, depth, _ = DECODER
    encoder = TOKENS * VALUES * WIDTH + blocks(DEPTH, visible + 1, WIDTH)
    predicted = TOKENS - visible
    decoder = (visible + 1) * WIDTH * width + blocks(depth, TOKENS + 1, width)
    return encoder + decoder + predicted * width * VALUES


def model_of(ratio: float):
    """The model; a ratio of 0 shows all tokens but one, which a decoder needs."""
    from keras_ssl import backbones, models

    encoder = backbones.VisionTransformer(
        "tiny", (SIDE, SIDE, 3), PATCH, positions="sincos", seed=0
    )
    return models.MAE(encoder, max(ratio, 1 / TOKENS), DECODER, views=None, seed=0)


def ours(batch: int, ratio: float, jit: bool) -> Callable:
    """Mask, losses and gradients of the package's model."""
    import keras
    import tensorflow as tf

    model = model_of(ratio)
    images = keras.random.normal((batch, SIDE, SIDE, 3), seed=1)

    @tf.function(jit_compile=jit)
    def step():
        views = model.make_views(images)
        with tf.GradientTape() as tape:
            loss = model.compute_losses(views, training=True)["reconstruction"]
        return loss, tape.gradient(loss, model.trainable_variables)

    return lambda: step()[0].numpy()


def bare(batch: int, ratio: float, jit: bool) -> Callable:
    """The same blocks on random tokens of the same numbers."""
    import keras
    import tensorflow as tf

    model = model_of(ratio)
    encoder, decoder = model.encoder, model.decoder
    visible = model.masking.visible(encoder.grid)
    seen = keras.random.normal((batch, visible + 1, WIDTH), seed=1)
    asked = keras.random.normal((batch, TOKENS - visible, DECODER[0]), seed=2)
    kept = (encoder.blocks, encoder.norm, decoder.embed, decoder.blocks, decoder.norm, decoder.head)
    variables = [v for part in kept for layer in _list(part) for v in layer.trainable_variables]

    @tf.function(jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            x = seen
            for block in encoder.blocks:
                x = block(x, training=True)
            x = tf.concat([decoder.embed(encoder.norm(x)), asked], axis=1)
            for block in decoder.blocks:
                x = block(x, training=True)
            loss = tf.reduce_mean(decoder.head(decoder.norm(x[:, visible + 1 :])) ** 2)
        return loss, tape.gradient(loss, variables)

    return lambda: step()[0].numpy()


def _list(part) -> list:
    return list(part) if isinstance(part, (list, tuple)) else [part]


def pytorch(batch: int, ratio: float, compiled: bool) -> Callable | None:
    """The released layout in PyTorch with fused attention, None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.first, self.second = (nn.LayerNorm(width, 1e-6) for _ in range(2))
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            parts = self.qkv(self.first(x)).unflatten(-1, (3, self.heads, -1))
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            return x + self.fall(functional.gelu(self.rise(self.second(x))))

    width, depth, heads = DECODER

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = nn.Conv2d(3, WIDTH, PATCH, PATCH)
            self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
            self.places = torch.randn(1, TOKENS, WIDTH)
            self.decoder_places = torch.randn(1, TOKENS + 1, width)
            self.blocks = nn.Sequential(*(Block(WIDTH, HEADS) for _ in range(DEPTH)))
            self.decoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
            self.norm, self.decoder_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(width)
            self.embed, self.head = nn.Linear(WIDTH, width), nn.Linear(width, VALUES)

        def forward(self, images):
            x = self.tokenizer(images).flatten(2).transpose(1, 2) + self.places
            visible = int(TOKENS * (1 - max(ratio, 1 / TOKENS)))
            order = torch.rand(len(x), TOKENS).argsort(1)
            restore = order.argsort(1)
            kept = order[:, :visible, None].expand(-1, -1, WIDTH)
            x = torch.cat([self.token.expand(len(x), -1, -1), x.gather(1, kept)], 1)
            x = self.embed(self.norm(self.blocks(x)))
            tokens = self.mask_token.expand(len(x), TOKENS - visible, -1)
            y = torch.cat([x[:, 1:], tokens], 1)
            y = y.gather(1, restore[..., None].expand(-1, -1, width))
            y = torch.cat([x[:, :1], y], 1) + self.decoder_places
            y = self.head(self.decoder_norm(self.decoder(y)))[:, 1:]
            grid = SIDE // PATCH
            target = images.unflatten(2, (grid, PATCH)).unflatten(4, (grid, PATCH))
            target = target.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
            mean, spread = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            error = ((y - (target - mean) / (spread + 1e-6).sqrt()) ** 2).mean(-1)
            hidden = (restore >= visible).float()
            return (error * hidden).sum() / hidden.sum()

    network, images = Network(), torch.randn(batch, 3, SIDE, SIDE)
    forward = torch.compile(network) if compiled else network

    def step():
        network.zero_grad(set_to_none=True)
        loss = forward(images)
        loss.backward()
        return loss.item()

    return step


def main() -> None:
    """Runs what the command line asks for."""
    # It imports TensorFlow, for which the variable above must be set.
    from train_step import measure

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="Markdown file for the tables")
    options = parser.parse_args()
    batch, repeats = options.batch, options.repeats
    contestants: dict[str, Callable] = {}
    for jit in (False, True):
        name = "compiled" if jit else "graph"
        contestants[f"ours, {name}"] = ours(batch, 0.75, jit)
        contestants[f"bare, {name}"] = bare(batch, 0.75, jit)
    for compiled in (False, True):
        try:
            step = pytorch(batch, 0.75, compiled)
            if step is not None:
                step()
                contestants[f"PyTorch, {'compiled' if compiled else 'eager'}"] = step
        except Exception as error:
            print(f"PyTorch did not compile: {error}")
    times = measure(contestants, warm_up=2, repeats=repeats)
    found = {name: statistics.median(seconds) for name, seconds in times.items()}
    best = min(seconds for name, seconds in found.items() if name.startswith("ours"))
    first = ["| step | seconds | against ours |", "|---|---|---|"]
    for name, seconds in found.items():
        own = found["ours" + name[4:]] if name.startswith("bare") else best
        ratio = "" if name.startswith("ours") else f"{seconds / own:.2f}"
        first.append(f"| {name} | {seconds:.3f} | {ratio} |")
    print("\n".join(first), flush=True)
    jit = found["ours, compiled"] < found["ours, graph"]
    steps = {f"{ratio}": ours(batch, ratio, jit) for ratio in RATIOS}
    times = measure(steps, warm_up=2, repeats=repeats)
    found = {name: statistics.median(seconds) for name, seconds in times.items()}
    second = ["| ratio | operations | seconds | time share of operations share |", "|---" * 4 + "|"]
    for ratio in RATIOS:
        work = [macs(int(TOKENS * (1 - max(r, 1 / TOKENS)))) for r in (ratio, 0.0)]
        time = found[f"{ratio}"] / found["0.0"]
        share = work[0] / work[1]
        second.append(f"| {ratio} | {share:.3f} | {found[f'{ratio}']:.3f} | {time / share:.2f} |")
    print("\n".join(second), flush=True)
    if options.write:
        text = (
            f"A forward and a backward pass of MAE with a ViT-Tiny on {batch} images of {SIDE} x "
            f"{SIDE} in patches of {PATCH} and a decoder of width {DECODER[0]} with {DECODER[1]} "
            f"blocks, by `python benchmarks/masked_step.py --write {options.write}` on "
            f"{os.cpu_count()} CPU cores: median seconds of {repeats} rounds in which all take "
            "turns, three quarters of the patches hidden. Bare runs the same blocks on as many "
            "random tokens; PyTorch has the layout of the released code and fused attention. A "
            "ratio above 1 says that ours is faster: against bare in the same mode, against "
            "PyTorch by the faster of ours."
        )
        more = (
            "Over the mask ratio: operations and time of a step, both beside those of a step with "
            "one hidden patch. A share of 1 would say that time falls as operations do."
        )
        parts = ["# A masked step", "\n".join(textwrap.wrap(text, 100)), "\n".join(first)]
        parts += ["\n".join(textwrap.wrap(more, 100)), "\n".join(second)]
        pathlib.Path(options.write).write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
