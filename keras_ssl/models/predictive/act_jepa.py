# SPDX-License-Identifier: Apache-2.0
"""ACT-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_ssl import losses
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import as_encoder
from keras_ssl.losses.reconstruction import checked_token_error
from keras_ssl.models.encoder_model import EncoderModel
from keras_ssl.models.predictive._watched import Watched
from keras_ssl.targets import standardized
from keras_ssl.tokens import ActionChunkDecoder, FutureChunkPredictor

AVERAGES = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)


@register(
    paper="ACT-JEPA: JEPA Improves Policy Representation Learning",
    year=2025,
    family="joint-embedding prediction",
    modality="trajectories",
    needs=("teacher", "trajectories"),
)
class ACTJEPA(Watched, EncoderModel):
    """Imitates what was done, and predicts what will be observed, in the latents of a teacher.

    From the observation now, queries of the next K steps predict a slow teacher's vectors of the K
    next observations, and a decoder reads the K actions from them: a policy that acts a chunk at a
    time, with a model of the world underneath. The first asks for no actions, so that trajectories
    without any, which are many, make the representation of the policy. Calling the model gives
    that representation of observations, `act` the chunk of actions.

    Data are dicts of windows of K + 1 steps:

    * `"observations"` `(B, K + 1, …)`, now and the K next; a dict of such where the encoder takes a
      dict, say of pictures and joint angles;
    * `"actions"` `(B, K + 1, A)`, each taken at its observation; the last one counts nothing. Data
      without the key have none: their term is 0, and the decoder stays as it is;
    * `"real"` `(B, K + 1)` boolean, False behind the end of an episode; may be left out;
    * `"labelled"` `(B,)` boolean, whether the actions of a row are known; may be left out.

    Args:
        encoder: any Keras model of one observation. Its tokens, or the places of its feature map,
            are looked at one by one, and their mean is the representation. An average over places
            at its end is left out therefore; another vector is one token.
        actions: A, numbers of an action.
        chunk: K, steps that are predicted.
        predictor: `(width, depth, heads)` of a `tokens.FutureChunkPredictor`, or such a layer.
        decoder: the same of a `tokens.ActionChunkDecoder`.
        latent_weight: weight of the error of latents; with 0 this is imitation alone.
        action_weight: weight of the error of actions; with 0 it is prediction alone.
        normalize: whether the teacher's vectors get mean 0 and variance 1, each.
        loss: of a latent vector: `"l1"`, `"l2"`, `"smooth_l1"` or `"cosine"`.
        action_loss: the same of an action.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: a layer with a deterministic part that prepares every observation, such as
            `views.Pipeline`; None: uint8 becomes 0..1.
        watch: samples that `fit` watches with a `callbacks.RepresentationMonitor`, unless it is
            given one or cannot read its data twice; 0 for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for negative weights, parts that do not fit each other, or other data.

    Source: ACT-JEPA, 2025, known to us by its abstract and summaries: an encoder of observations, a
    predictor of latents of an EMA teacher and a decoder of action chunks, trained together. No code
    is released. Both errors being mean absolute ones (that of actions is ACT's, Zhao et al. 2023),
    their weights, K, the sizes, standardised latents (I-JEPA's), queries that the decoder takes
    from the predictor, and that the trained encoder is evaluated are our reading.

    Example:

    ```python
    model = ACTJEPA(encoder, actions=2, chunk=16)
    model.compile(optimizers.AdamW(1e-4, weight_decay=1e-4))
    model.fit({"observations": frames, "actions": moves, "real": real}, batch_size=64)
    next_moves = model.act(frames[:1, 0])
    ```
    """

    loss_terms = ("latents", "actions")

    def __init__(
        self,
        encoder: keras.Model,
        actions: int,
        chunk: int = 16,
        predictor: Sequence[int] | keras.Layer = (256, 4, 8),
        decoder: Sequence[int] | keras.Layer = (256, 1, 8),
        latent_weight: float = 1.0,
        action_weight: float = 1.0,
        normalize: bool = True,
        loss: str = "l1",
        action_loss: str = "l1",
        momentum: float | Callable = 0.996,
        batch_norm: str = "own",
        views: keras.Layer | None = None,
        watch: int = 256,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(latent_weight, action_weight) < 0.0 or not latent_weight + action_weight > 0.0:
            raise ValueError(
                "ACTJEPA's weights are at least 0 and not both 0; received "
                f"latent_weight={latent_weight}, action_weight={action_weight}."
            )
        if momentum is None:
            raise ValueError("ACTJEPA's teacher follows the encoder. Give a momentum, say 0.996.")
        self.width = as_encoder(encoder).output_shape[-1]
        self.encoder, self.views, self.watch = _with_places(encoder), views, watch
        self.actions, self.chunk, self.normalize = int(actions), int(chunk), normalize
        self.latent_weight, self.action_weight = latent_weight, action_weight
        self.loss, self.action_loss = checked_token_error(loss), checked_token_error(action_loss)
        self.momentum, self.batch_norm = momentum, batch_norm
        self.predictor = self._part(predictor, FutureChunkPredictor, self.chunk, 1)
        self.decoder = self._part(decoder, ActionChunkDecoder, self.actions, 2)
        memory = (None, None, self.width)
        if not self.predictor.built:
            self.predictor.build(memory)
        if not self.decoder.built:
            self.decoder.build((None, self.chunk, self.predictor.width), memory)
        if (self.predictor.chunk, self.decoder.actions) != (self.chunk, self.actions):
            raise ValueError(
                f"ACTJEPA of {self.chunk} steps and {self.actions} numbers of an action got a "
                f"predictor of {self.predictor.chunk} steps and a decoder of "
                f"{self.decoder.actions} numbers."
            )
        self.teacher_encoder = Teacher(self.encoder, momentum, batch_norm)
        self._imitates = True
        self.built = True

    def _part(self, given: Any, cls: type, first: int, position: int) -> Any:
        if isinstance(given, keras.Layer):
            return given
        return cls(first, *given, seed=layer_seed(self.seed, position), dtype=self.dtype_policy)

    def teachers(self):
        """The teacher follows the encoder."""
        return [(self.teacher_encoder, self.encoder)]

    @property
    def representing(self) -> keras.Model:
        """The encoder, its tokens pooled by their mean."""
        return as_encoder(self.encoder)

    def idle_variables(self) -> list:
        """What chooses among tokens, or among steps, where there is but one."""
        single = {
            "cross_attention": len(self.encoder.output_shape) == 2,
            "self_attention": self.chunk == 1,
        }
        names = [name for name, one in single.items() if one]
        parts = (self.predictor, self.decoder)
        return [v for name in names for part in parts for v in part.choosing_variables(name)]

    def frozen_variables(self):
        """A part stands still where nothing is asked of it."""
        parts = []
        if not self._imitates:
            parts += self.decoder.trainable_variables
        if not self.latent_weight:
            parts += self.predictor.head.trainable_variables
        idle = {id(variable) for variable in self.idle_variables()}
        return [([v for v in parts if id(v) not in idle], True)] if parts else []

    # --- what is seen -----------------------------------------------------------------------

    def make_views(self, batch: Any) -> dict[str, Any]:
        """The batch with prepared observations, flags as booleans, and only what counts."""
        if not isinstance(batch, Mapping) or "observations" not in batch:
            found = f"keys {sorted(batch)}" if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                'ACTJEPA takes windows of trajectories, {"observations": (batch, '
                f'{self.chunk + 1}, …), "actions": (batch, {self.chunk + 1}, {self.actions})}}; '
                f"received {found}."
            )
        steps = self.chunk + 1
        for part in tree.flatten(batch["observations"]):
            self._check("observations", part.shape[:2], steps)
        now = tree.map_structure(lambda x: x[:, 0], batch["observations"])
        found = {"now": self.preprocess(now)}
        if self.latent_weight:
            found["next"] = self.preprocess(
                tree.map_structure(
                    lambda x: ops.reshape(x[:, 1:], (-1, *x.shape[2:])), batch["observations"]
                )
            )
        real = batch.get("real")
        if real is not None:
            self._check("real", real.shape, steps)
            real = ops.cast(real, "float32")
            found["latent_weights"] = real[:, 1:]
        if "actions" in batch and self.action_weight:
            self._check("actions", batch["actions"].shape, steps, self.actions)
            found["actions"] = ops.cast(batch["actions"][:, :-1], "float32")
            weights = ops.ones_like(found["actions"][..., 0]) if real is None else real[:, :-1]
            if batch.get("labelled") is not None:
                self._check("labelled", batch["labelled"].shape)
                weights = weights * ops.cast(batch["labelled"], "float32")[:, None]
            found["action_weights"] = weights
        return found

    def _check(self, name: str, shape: Any, *wanted: int) -> None:
        if len(shape) != len(wanted) + 1 or tuple(shape[1:]) != wanted:
            raise ValueError(
                f"ACTJEPA(actions={self.actions}, chunk={self.chunk}) needs {name!r} of shape "
                f"{('batch', *wanted)}, now and the {self.chunk} next steps; received "
                f"{tuple(shape)}."
            )

    def watched(self, samples: Any) -> Any:
        """The observations now."""
        return tree.map_structure(lambda x: x[:, 0], samples["observations"])

    # --- what is asked ----------------------------------------------------------------------

    def tokens(self, network: Any, observations: Any, training: bool = False) -> Any:
        """Tokens `(B, N, D)` that the encoder or its teacher makes of prepared observations."""
        found = network(observations, training=training)
        return ops.reshape(found, (ops.shape(found)[0], -1, self.width))

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """The weighted errors of latents and of actions."""
        self._imitates = "actions" in views
        memory = self.tokens(self.encoder, views["now"], training)
        steps = self.predictor(memory, training=training)
        found = {name: ops.zeros((), "float32") for name in self.loss_terms}
        if self.latent_weight:
            target = self.tokens(self.teacher_encoder, views["next"], training)
            target = ops.mean(ops.cast(target, "float32"), axis=1)
            target = ops.reshape(target, (-1, self.chunk, self.width))
            target = standardized(target) if self.normalize else target
            error = losses.token_error(
                self.predictor.latents(steps), target, views.get("latent_weights"), self.loss
            )
            found["latents"] = self.latent_weight * error
        if self._imitates:
            error = losses.token_error(
                self.decoder(steps, memory, training=training),
                views["actions"],
                views["action_weights"],
                self.action_loss,
            )
            found["actions"] = self.action_weight * error
        return found

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Representations `(B, D)` of observations `(B, …)`, or of the first ones of windows."""
        if isinstance(inputs, Mapping) and "observations" in inputs:
            inputs = self.watched(inputs)
        return ops.mean(self.tokens(self.encoder, self.preprocess(inputs), training), axis=1)

    def act(self, observations: Any) -> Any:
        """What to do in the next steps.

        Args:
            observations: `(B, …)`, raw, as one step of the data.

        Returns:
            float32 `(B, chunk, actions)`.
        """
        memory = self.tokens(self.encoder, self.preprocess(observations))
        return ops.cast(self.decoder(self.predictor(memory), memory), "float32")


def _with_places(encoder: keras.Model) -> keras.Model:
    """The encoder up to the map whose places it averages at its end, if it does."""
    last = encoder.layers[-1]
    if not isinstance(last, AVERAGES):
        return encoder
    return keras.Model(encoder.input, last.input, name=encoder.name)
