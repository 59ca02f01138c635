# SPDX-License-Identifier: Apache-2.0
"""Positions of tokens."""

from __future__ import annotations

import numpy as np

from keras_ssl import backbones, tokens

ORDERS = {"column, row": (1, 0), "row, column": (0, 1)}


def _sincos(arrays: dict, meta: dict) -> dict:
    squares = {"2d": (meta["grid_2d"],) * 2, "3d": meta["grid_3d"], "nd": meta["grid_nd"]}
    grids = squares | {"1d": (meta["L_1d"],), "rect": meta["rect"]}
    widths = {"2d": meta["D_2d"], "3d": meta["D_3d"], "nd": meta["D_nd"], "1d": meta["D_1d"]}

    def table(name, options):
        kind = next(k for k in ("2d", "3d", "nd", "1d") if k in name)
        settings = {}
        if "order" in options:
            settings["order"] = ORDERS[options["order"]]
        if isinstance(options.get("split"), list):
            settings["split"] = "half"
        elif "split" in options:
            settings["split"] = "cut"
        if options.get("padding") == "zeros":
            settings["split"] = "pad"
        if "indexing" in options:
            settings["indexing"] = options["indexing"]
        if options.get("interleaved"):
            settings |= {"interleaved": True, "flat": True}
        prefix = int(options.get("class_token", False))
        grid = grids[options.get("grid", kind)]
        base = float(meta["base"])
        return tokens.sincos_table(grid, widths[kind], prefix=prefix, base=base, **settings)

    names = [n for n in meta["sources"]] + list(meta["options"])
    wanted = sorted(set(names) | {"out_jepa_1d"})
    return {name: table(name, meta["options"].get(name, {})) for name in wanted}


def _interpolation(arrays: dict, meta: dict) -> dict:
    table = arrays["in_pos_embed"].astype("float32")
    old, new = (meta["old"],) * 2, (meta["new"],) * 2
    prefix = table.shape[1] - meta["old"] ** 2
    result = {}
    for name, options in meta["options"].items():
        # What has no class row in its result was computed without it.
        kept = prefix if name == "out_pos_embed" else 0
        result[name] = np.asarray(
            tokens.interpolate_positions(
                table[:, prefix - kept :],
                old,
                new,
                prefix=kept,
                method=options["interpolation"],
                antialias=options["antialias"],
            )
        )
    return result


def _table(arrays: dict, meta: dict) -> dict:
    front, numeric = meta["n_cls"], arrays["in_num"].shape[1]
    weight, bias = arrays["in_w__weight"], arrays["in_w__bias"]
    count = arrays["in_cat"].shape[1]
    embeddings = [arrays[f"in_w__category_embeddings__{k}__weight"] for k in range(count)]
    sizes = [len(embedding) for embedding in embeddings]
    tokenizer = tokens.FeatureTokenizer(numeric, sizes, weight.shape[1])
    prefix = tokens.PrefixTokens(True, front - 1)
    batch = {"numeric": arrays["in_num"].astype("float32"), "categorical": arrays["in_cat"]}
    prefix(tokenizer(batch))
    tokenizer.weight.assign(weight[front:])
    tokenizer.embedding.assign(np.concatenate(embeddings))
    tokenizer.bias.assign(bias)
    prefix.tokens[0].assign(weight[None, :1])
    if front > 1:
        prefix.tokens[1].assign(weight[None, 1:front])
    return {"out_tokens": np.asarray(prefix(tokenizer(batch)))}


def _registers(arrays: dict, meta: dict) -> dict:
    """Tokens of columns behind the registers of a transformer, which have no offset."""
    front, width = meta["n_reg_tokens"], meta["d"]
    embeddings = [arrays[f"in_emb{k}"] for k in range(arrays["in_cat"].shape[1])]
    batch = {"numeric": arrays["in_num"].astype("float32"), "categorical": arrays["in_cat"]}
    batch = {name: x for name, x in batch.items() if x.shape[1]}
    tokenizer = tokens.FeatureTokenizer(
        arrays["in_num"].shape[1], [len(one) for one in embeddings], width
    )
    encoder = backbones.TokenTransformer(
        tokenizer,
        {name: x.shape[1:] for name, x in batch.items()},
        1,
        1,
        class_token=False,
        registers=front,
        positions="none",
    )
    if "numeric" in batch:
        tokenizer.weight.assign(arrays["in_weight"][front:])
    if embeddings:
        tokenizer.embedding.assign(np.concatenate(embeddings))
    tokenizer.bias.assign(arrays["in_bias"])
    if front:
        encoder.prefix.tokens[0].assign(arrays["in_weight"][None, :front])
    return {"out_tokens": np.asarray(encoder.first_tokens(batch)[0])}


CASES = {
    "jepa_tjepa_tokens": _registers,
    "tabular_tokenizer": _table,
    "mim_sincos_position_tables": _sincos,
    "mim_pos_embed_interpolation": _interpolation,
}
