# SPDX-License-Identifier: Apache-2.0
"""seq-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import layers, losses
from keras_ssl import views as views_module
from keras_ssl.core import Teacher, distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.models.encoder_model import EncoderModel
from keras_ssl.models.predictive._watched import Watched
from keras_ssl.tokens import SequenceAggregator


@register(
    paper="seq-JEPA: Autoregressive Predictive Learning of Invariant-Equivariant World Models",
    year=2025,
    family="joint-embedding prediction",
    modality="image",
    needs=("transformation parameters", "teacher"),
)
class SeqJEPA(Watched, EncoderModel):
    """Predicts the next view of a sequence from those before and from what changes between them.

    A transformer without positions sums up the context: tokens of the encoder's vector of a view
    and a projection of the change that comes after it. From this aggregate and the change to come
    a small network predicts a slow teacher's vector of the next view. So the encoder's vectors
    follow the transformation (they are equivariant), while the aggregate of several views tells
    what is seen: two representations of one training. Calling the model gives the first, of single
    images; `represent` gives both.

    What changes comes from either of two sources:

    * with `actions=A` from the data, dicts of `"views"` `(B, S, …)`, S - 1 context views and the
      next one, and `"actions"`: transformation parameters `(B, S, A)` of every view, whose
      differences count, or `(B, S - 1, A)` what changes itself, such as the quaternion from each
      pose to the next. Samples are images, or whatever the encoder takes;
    * with `actions=None` from the views of plain images, see `views.SequenceWithParameters`.

    Args:
        encoder: any Keras model from a sample, such as an image `(H, W, C)`, to a vector; a feature
            map is pooled.
        actions: number of transformation parameters in the data; None for those of the views.
        context: number of context views that are made of plain images; the data brings its own.
        action_width: features of a projected change.
        aggregator: `(depth, heads)` of a `tokens.SequenceAggregator`, or such a layer; the heads
            divide the encoder's width + `action_width`.
        predictor: hidden width of the predictor, or a layer from the width of a token +
            `action_width` to the encoder's.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; None
            takes the encoder itself, without gradient, for the teacher. The paper ramps 0.996 to 1
            by `schedules.CosineMomentum`.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: name of views, a `views.Pipeline` or a layer of several for plain images, None for
            BYOL's: the first makes the context, the last the next view. Of data with parameters
            they only do the deterministic part; None for none.
        watch: samples that `fit` watches with a `callbacks.RepresentationMonitor`, unless it is
            given one or cannot read its data twice; 0 for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for parts that do not fit each other, or data of the other kind.

    Source: seq-JEPA, 2025; layout of the networks: released code (hafezgh/seq-jepa).

    Example:

    ```python
    model = SeqJEPA(encoder, actions=4, momentum=schedules.CosineMomentum(0.996, total_steps=9000))
    model.compile(optimizers.AdamW(4e-4, weight_decay=1e-3))
    model.fit({"views": renderings, "actions": quaternions}, batch_size=512)
    model.represent({"views": renderings, "actions": quaternions})["aggregate"]
    ```
    """

    loss_terms = ("prediction",)
    minimum_batch = 2

    def __init__(
        self,
        encoder: keras.Model,
        actions: int | None = None,
        context: int = 3,
        action_width: int = 128,
        aggregator: Sequence[int] | keras.Layer = (3, 4),
        predictor: int | keras.Layer = 1024,
        momentum: float | Callable | None = 0.996,
        batch_norm: str = "own",
        views: str | keras.Layer | None = None,
        watch: int = 256,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder = layers.as_encoder(encoder)
        self.actions, self.context, self.action_width = actions, context, action_width
        self.momentum, self.batch_norm, self.watch = momentum, batch_norm, watch
        self.views = self._checked_views(views)
        width = self.encoder.output_shape[-1]
        self.teacher_encoder = None
        if momentum is not None:
            self.teacher_encoder = Teacher(self.encoder, momentum, batch_norm)
        parameters = self.views.latent_size if actions is None else actions
        self.action_projector = self.build_head(
            (action_width,), parameters, 1, bias="none", last_batch_norm="plain"
        )
        token = width + action_width
        self.aggregator = self._aggregator(aggregator, token)
        head = (predictor, width) if isinstance(predictor, int) else predictor
        self.predictor = self.build_head(head, token + action_width, 2)
        made = self.predictor.compute_output_shape((None, token + action_width))[-1]
        if made != width:
            raise ValueError(
                f"The predictor gives {made} numbers; the encoder's vectors have {width}."
            )
        self.built = True

    def _aggregator(self, given: Any, width: int) -> keras.Layer:
        if not isinstance(given, keras.Layer):
            depth, heads = given
            if width % heads:
                raise ValueError(
                    f"The encoder's width and action_width={self.action_width} make tokens of "
                    f"{width} numbers, which {heads} heads do not divide. Choose another "
                    "action_width, or aggregator=(depth, heads)."
                )
            seed = layer_seed(self.seed, 3)
            given = SequenceAggregator(depth, heads, seed=seed, dtype=self.dtype_policy)
        if not given.built:
            given.build((None, None, width))
        return given

    def _checked_views(self, views: Any) -> Any:
        """Views with parameters for plain images; any with a deterministic part for other data."""
        shape = tuple(self.encoder.input_shape[1:])
        if views is not None or self.actions is None:
            views = views_module.get("byol" if views is None else views, image_shape=shape)
        if self.actions is not None:
            return views
        if not isinstance(views, views_module.SequenceWithParameters):
            views = views_module.SequenceWithParameters(views, self.context + 1)
        self.context = views.count - 1
        made = views.compute_output_shape((None, *shape))["views"][2:]
        if any(have not in (None, got) for have, got in zip(shape, made, strict=True)):
            raise ValueError(f"The views are of {tuple(made)}, the encoder was made for {shape}.")
        return views

    def teachers(self):
        """The teacher follows the encoder."""
        teacher = self.teacher_encoder
        return [] if teacher is None else [(teacher, self.encoder)]

    # --- what is seen -----------------------------------------------------------------------

    def make_views(self, batch: Any) -> dict[str, Any]:
        """`"views"` `(B, S, …)` as the encoder takes them, and `"actions"`."""
        return self._sequence(batch, self.draw_seed() if self.actions is None else None)

    def watched(self, samples: Any) -> Any:
        """The first view of every sequence."""
        return samples["views"][:, 0] if isinstance(samples, Mapping) else samples

    def _sequence(self, batch: Any, seed: Any) -> dict[str, Any]:
        wanted = tuple(self.encoder.input_shape[1:])
        if self.actions is None:
            shape: tuple = tuple(getattr(batch, "shape", ()))
            if len(shape) != len(wanted) + 1 or shape[-1] not in (wanted[-1], None):
                raise ValueError(
                    f"SeqJEPA(actions=None) takes images (batch, {', '.join(map(str, wanted))}) "
                    f"and knows the parameters of its views; received {_described(batch)}. For "
                    "sequences with parameters of their own give the number of parameters: "
                    "SeqJEPA(encoder, actions=4)."
                )
            return self.views(batch, seed=seed)
        if not isinstance(batch, Mapping) or not {"views", "actions"} <= set(batch):
            raise ValueError(
                f'SeqJEPA(actions={self.actions}) takes sequences, {{"views": (batch, S, …), '
                f'"actions": (batch, S, {self.actions})}}; received {_described(batch)}. For plain '
                "images leave actions=None."
            )
        views, actions = batch["views"], batch["actions"]
        shape, changes = tuple(views.shape), tuple(actions.shape)
        if len(shape) != len(wanted) + 2 or (shape[1] or 0) < 2 or shape[-1] != wanted[-1]:
            raise ValueError(
                f"SeqJEPA's sequences are (batch, S, {', '.join(map(str, wanted))}) with S known "
                f"and at least 2; received {shape}."
            )
        if len(changes) != 3 or changes[1] not in (shape[1], shape[1] - 1):
            changes = (*changes, None)
        if changes[2:] != (self.actions,):
            raise ValueError(
                f"SeqJEPA(actions={self.actions}) needs {self.actions} parameters of each of the "
                f"{shape[1]} views, or of each change between them; received shape "
                f"{tuple(actions.shape)}."
            )
        views = self.preprocess(ops.reshape(views, (-1, *shape[2:])))
        views = ops.reshape(views, (-1, shape[1], *views.shape[1:]))
        return {"views": views, "actions": ops.cast(actions, "float32")}

    # --- what is asked ----------------------------------------------------------------------

    def encode_views(self, views: Any, training: bool = False) -> Any:
        """Vectors `(B, S, F)` of prepared views `(B, S, …)`, by one call of the encoder."""
        count = views.shape[1]
        features = self.encoder(ops.reshape(views, (-1, *views.shape[2:])), training=training)
        return ops.reshape(features, (-1, count, features.shape[-1]))

    def aggregate(self, features: Any, changes: Any, training: bool = False) -> Any:
        """What several views have in common.

        Args:
            features: `(B, S, F)` of the encoder.
            changes: `(B, S - 1, A)`, from each view to the next.
            training: whether layers run in training mode.

        Returns:
            `(B, F + action_width)`.
        """
        count, (parameters, width) = features.shape[1], (changes.shape[-1], self.action_width)
        # Nothing follows the last view. Its row of zeros takes part in the statistics of the batch,
        # and what they make of it is left out behind them.
        rows = ops.pad(changes, ((0, 0), (0, 1), (0, 0)))
        rows = self.action_projector(ops.reshape(rows, (-1, parameters)), training=training)
        rows = ops.reshape(rows, (-1, count, width))[:, : count - 1]
        rows = ops.cast(ops.pad(rows, ((0, 0), (0, 1), (0, 0))), features.dtype)
        tokens = ops.concatenate([features, rows], axis=-1)
        return self.aggregator(tokens, training=training)

    def predict_next(self, aggregate: Any, change: Any, training: bool = False) -> Any:
        """The next view's vector `(B, F)`, of an aggregate `(B, D)` and the change `(B, A)`."""
        change = self.action_projector(change, training=training)
        aggregate = ops.cast(aggregate, change.dtype)
        joined = ops.concatenate([aggregate, change], axis=-1)
        return self.predictor(joined, training=training)

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """1 - the cosine between the prediction and the teacher's vector of the next view."""
        seen, changes = views["views"], _changes(views)
        features = self.encode_views(seen[:, :-1], training)
        aggregate = self.aggregate(features, changes[:, :-1], training)
        prediction = self.predict_next(aggregate, changes[:, -1], training)
        network = self.encoder if self.teacher_encoder is None else self.teacher_encoder
        target = network(seen[:, -1], training=training)
        return {"prediction": 1.0 + losses.negative_cosine(prediction, target)}

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The encoder's vectors `(B, F)` of raw samples, or `(B, S, F)` of sequences as data."""
        if isinstance(inputs, Mapping):
            return self.encode_views(self._sequence(inputs, None)["views"], training)
        return super().call(inputs, training)

    def represent(self, batch: Any, seed: int = 0) -> dict[str, Any]:
        """Both representations of sequences, all of whose views are context.

        Args:
            batch: what `fit` takes.
            seed: of the views that are made of plain images.

        Returns:
            `"views"` `(B, S, F)`, the vector of each view, and `"aggregate"`
            `(B, F + action_width)`.
        """
        made = self._sequence(batch, distribution.fixed_seed(seed))
        features = self.encode_views(made["views"])
        return {"views": features, "aggregate": self.aggregate(features, _changes(made))}


def _changes(views: dict) -> Any:
    """What changes from each view to the next, `(B, S - 1, A)`."""
    actions = views["actions"]
    if actions.shape[1] == views["views"].shape[1]:
        return actions[:, 1:] - actions[:, :-1]
    return actions


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"keys {sorted(batch)}"
    shape = getattr(batch, "shape", None)
    return f"a {type(batch).__name__}" if shape is None else f"shape {tuple(shape)}"
