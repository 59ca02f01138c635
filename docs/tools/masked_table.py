# SPDX-License-Identifier: Apache-2.0
"""Writes the table of masked methods into the documentation from what small models of them hold.

Used by MkDocs as a hook; `python docs/tools/masked_table.py` prints the table.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])
MARK = "<!-- masked table -->"
# Samples and patch of what is no picture.
SHAPES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "AudioMAE": ((32, 32, 1), (4, 4)),
    "SignalMAE": ((64, 1), (4,)),
    "VideoMAEV2": ((4, 32, 32, 3), (2, 4, 4)),
    **dict.fromkeys(("VJEPA", "SALT"), ((4, 32, 32, 3), (2, 4, 4))),
    "ECGJEPA": ((512, 12), (8,)),
    "EEGVJEPA": ((256, 16), (2, 2, 4)),
}
DECODER = ("width", "depth", "heads", "window", "hidden", "fusion")
OPTIONS = {
    "CAE": {"regressor": (4, 2), "decoder": (4, 2)},
    # Of 64 patches the published share of 0.985 leaves none.
    "CropMAE": {"masking": 0.968},
    "Uni4Eye": {"volume_shape": (16, 16, 16, 1), "volume_patch": (4, 4, 4)},
}


def table() -> str:
    """Returns the parts of every masked method, as Markdown.

    Returns:
        A header and one row for each method, in order of name.
    """
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    from keras_ssl import models
    from keras_ssl.core import methods

    rows = ["| method | tokenizer | masking | decoder | target | loss |", "|---" * 6 + "|"]
    for name, method in methods().items():
        if issubclass(method.cls, models.MaskedModeling):
            rows.append(f"| {' | '.join((f'`{name}`', *_parts(method.cls)))} |")
    return "\n".join(rows)


def _parts(cls: type) -> list[str]:
    from keras_ssl import backbones, models, tokens

    name, sizes = cls.__name__, {"depth": 1, "heads": 2}
    if issubclass(cls, models.JointEmbeddingPredictive):
        sizes |= {"class_token": name == "DSeqJEPA", "pooling": "mean"}
    if name == "TJEPA":
        tokenizer = tokens.FeatureTokenizer(6, (9, 16), 24)
        shapes = {"numeric": (6,), "categorical": (2,)}
        encoder = backbones.TokenTransformer(tokenizer, shapes, registers=1, **sizes)
    elif name == "LVMAE":
        encoder = backbones.TokenTransformer(tokens.EmbeddingTokenizer(24), (16, 8), **sizes)
    elif name in SHAPES:
        shape, patch = SHAPES[name]
        tokenizer: Any = tokens.PatchTokenizer(patch, 24)
        if name == "EEGVJEPA":
            tokenizer = tokens.RecordingTokenizer(8, patch, 24)
        encoder = backbones.TokenTransformer(tokenizer, shape, **sizes)
    elif name == "SparK":
        encoder = backbones.ConvNet((32, 32, 3), (8, 12, 16))
    else:
        places = "none" if name == "PositionPrediction" else "learned"
        shape, options = (32, 32, 3), {"width": 24, "positions": places, **sizes}
        shape = (32, 32, 1) if name == "SARJEPA" else shape
        encoder = backbones.VisionTransformer("tiny", shape, 4, **options)
    model = cls(encoder, **{**OPTIONS.get(name, {}), **_teachers(name, encoder)})
    # What stands for tokens in a convolutional network.
    cells = model.masked_encoder
    tokenizer = _named(getattr(encoder, "tokenizer", cells), ("patch",))
    if name == "Uni4Eye":
        tokenizer += ", " + _named(model.volume_encoder.tokenizer, ("patch",))
    strategies = getattr(model.masking, "strategies", [model.masking])
    settings = ("ratio", "color", "group", "share", "components", "blocks", "sets")
    masking = " and ".join(_named(one, settings) for one in strategies)
    if name == "HybridDistillation":
        masking = f"none; `drop={model.drop}` behind each quarter of the blocks"
    if model.decode is not None:
        masking += "; decoder: " + _named(model.decode, ("ratio",))
    # Where nothing is decoded, what maps tokens to a teacher's.
    maps = {"MaskAlign": "alignment", "HybridDistillation": "head"}
    decoder = _each(getattr(model, maps.get(name, "decoder")))
    # G2SD's is a block of its teacher's decoder.
    target = _each(model.target or model.teacher[1].network)
    return [
        tokenizer,
        masking,
        " and ".join(_named(p, DECODER) for p in decoder),
        " and ".join(_named(p, ("normalize", "classes")) for p in target),
        f"`{model.loss}`",
    ]


def _teachers(name: str, encoder: Any) -> dict[str, Any]:
    """What a method learns from, besides samples."""
    from keras_ssl import models

    if name == "G2SD":
        return {"teacher": models.MAE(encoder, decoder=(24, 1, 2)), "teacher_block": 1}
    return {
        "MaskAlign": {"teacher": encoder, "levels": 1},
        "HybridDistillation": {"teacher": encoder, "relation_teacher": encoder},
        "SALT": {"teacher": encoder},
    }.get(name, {})


def _each(part: Any) -> list:
    if isinstance(part, (list, tuple)):
        return list(part)
    return list(part.values()) if hasattr(part, "values") and hasattr(part, "keys") else [part]


def _named(layer: Any, settings: tuple[str, ...]) -> str:
    """A layer's class with those of some settings that it has, a dash where there is none."""
    if layer is None:
        return "–"
    held = [(n, getattr(layer, n)) for n in settings if getattr(layer, n, None) not in (None, ())]
    # A name of a setting may be that of a part elsewhere.
    held = [(n, v) for n, v in held if "keras" not in repr(v) and "<" not in repr(v)]
    inside = ", ".join(f"{n}={tuple(v) if isinstance(v, list) else v!r}" for n, v in held)
    return f"`{type(layer).__name__}({inside})`"


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Puts the table in the place of its mark; called by MkDocs for each page."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


if __name__ == "__main__":
    print(table())
