# SPDX-License-Identifier: Apache-2.0
"""SiT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher, distribution, register
from keras_ssl.masking import GroupCorruption
from keras_ssl.models.masked.gmml import GMML
from keras_ssl.views import quarter_turns

# Views that are compared, and what tells their turns from the rest of what is drawn in a step.
PAIR, TURNS = 2, 7003


@register(
    paper="SiT: Self-supervised vIsion Transformer",
    year=2021,
    family="masked modelling",
    modality="image",
    needs=("negatives", "teacher", "vision transformer"),
)
class SiT(GMML):
    """GMML's reconstruction by patch tokens, and momentum contrast by the class token.

    A student sees two corrupted views of an image, a slowly moving teacher sees them whole. The
    class token of one view finds the teacher's of the other among those of the batch, as in MoCo v3
    without a predictor. With `rotation_weight` the views are turned by quarters besides, each by
    its own, and a token says by how many.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token; for the rotation with
            `registers=1`, whose first is the rotation's token.
        masking: a `masking.GroupCorruption`; None for the paper's.
        decoder: layer from tokens to pixels; None for three hidden layers of the encoder's width.
        projector: widths of the head (Linear, BN, ReLU, …, Linear, BN without scale and offset; no
            biases) or a layer.
        head_batch_norm: whether the projector has batch norms.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        temperature: divisor of the cosine similarities.
        reconstruction_weight: of the reconstruction; the authors raise it to 5 on small data.
        rotation_weight: of the rotation; 0 leaves turns, token and head out.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: name of two views or a layer.
        **kwargs: `blocks` (here the last alone), `target` and `loss` of `GMML`; `seed`, `name`,
            `dtype`.

    Raises:
        ValueError: for other than two views, an encoder without class token, or a rotation without
            its token or of images that are not square.

    Source: Atito et al., 2021, section 3; https://arxiv.org/abs/2104.03602. As released in its last
    form (Sara-Ahmed/SiT), but for a GELU behind the projector's second layer. Before, the rotation
    was a part with its own token, a linear head and weights that were learned.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, drop_path=0.1)
    model = SiT(encoder, reconstruction_weight=5.0)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    loss_terms = ("reconstruction", "contrast")
    decoded_terms = ("reconstruction",)
    minimum_batch = 2

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        projector: Sequence[int] | keras.Layer = (4096, 4096, 256),
        head_batch_norm: bool = True,
        momentum: float | Callable = 0.996,
        temperature: float = 0.2,
        reconstruction_weight: float = 1.0,
        rotation_weight: float = 0.0,
        batch_norm: str = "own",
        views: str | keras.Layer = "sit",
        **kwargs: Any,
    ):
        kwargs.setdefault("blocks", (len(self.checked_encoder(encoder).blocks),))
        if rotation_weight:
            self.loss_terms = (*type(self).loss_terms, "rotation")
        masking = GroupCorruption(0.5, 0.3, fill="zeros") if masking is None else masking
        super().__init__(encoder, masking=masking, decoder=decoder, views=views, **kwargs)
        _check(encoder, self.views, rotation_weight)
        self.momentum, self.temperature, self.batch_norm = momentum, temperature, batch_norm
        self.reconstruction_weight = reconstruction_weight
        self.rotation_weight, self.head_batch_norm = rotation_weight, head_batch_norm
        layout: dict[str, Any] = {"bias": "all", "batch_norm": False}
        if head_batch_norm:
            layout = {"bias": "none", "last_batch_norm": "plain"}
        self.projector = self.build_head(projector, encoder.width, 4, **layout)
        self.student_tokens = encoder.token_model()
        self.teacher_encoder = Teacher(self.student_tokens, momentum, batch_norm)
        self.teacher_projector = Teacher(self.projector, momentum, batch_norm)
        if rotation_weight:
            self.rotation_head = self.build_head([4], encoder.width, 5)

    def teachers(self):
        """Teacher encoder and projector follow the student's."""
        pairs = [(self.teacher_encoder, self.student_tokens)]
        return [*super().teachers(), *pairs, (self.teacher_projector, self.projector)]

    def make_views(self, batch: Any) -> dict[str, Any]:
        """Two clean views one after the other, corrupted ones, where they differ, and turns."""
        clean = self.all_views(batch)
        if not self.rotation_weight:
            return self.corrupt(clean)
        seed, rows = distribution.fold_in(self.draw_seed(), TURNS), ops.shape(clean[0])[0]
        drawn = distribution.uniform_rows(seed, rows, (PAIR,))
        turns = ops.cast(ops.floor(drawn * 4.0), "int32")
        clean = [quarter_turns(view, turns[:, index]) for index, view in enumerate(clean)]
        return self.corrupt(clean) | {"turns": ops.reshape(ops.transpose(turns), (-1,))}

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """Overwritten pixels, the other view's class token and, where wanted, the turns."""
        encoded = self.encode_corrupted(views["corrupted"], training)
        queries = self.projector(encoded[:, 0], training=training)
        keys = self.teacher_encoder(views["inputs"], training=training)[:, 0]
        keys = self.teacher_projector(keys, training=training)
        pairs = [ops.split(x, PAIR, axis=0) for x in (queries, keys)]
        reconstruction = self.reconstruction(encoded, views, training)
        terms = {
            "reconstruction": self.reconstruction_weight * reconstruction,
            "contrast": losses.moco_v3(*pairs, temperature=self.temperature),
        }
        if self.rotation_weight:
            turns = losses.classification(self.rotation_head(encoded[:, 1]), views["turns"])
            terms["rotation"] = self.rotation_weight * turns
        return terms


def _check(encoder: TokenTransformer, views: Any, rotation: float) -> None:
    if (count := getattr(views, "count", 1)) != PAIR:
        raise ValueError(f"SiT compares exactly two views; views={views!r} gives {count}.")
    if not encoder.prefix.class_token:
        raise ValueError(
            "SiT compares class tokens; give a backbones.VisionTransformer with class_token=True."
        )
    if rotation and encoder.prefix.registers < 1:
        raise ValueError(
            "SiT(rotation_weight=…) reads the turns from the first register token; give a "
            "backbones.VisionTransformer with registers=1."
        )
    if rotation and encoder.sample_shape[0] != encoder.sample_shape[1]:
        raise ValueError(
            "SiT(rotation_weight=…) turns images by 90 degrees, so they must be square; the "
            f"encoder takes {encoder.sample_shape[0]} x {encoder.sample_shape[1]}."
        )
