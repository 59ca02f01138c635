# SPDX-License-Identifier: Apache-2.0
"""The sparse autoencoder."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import SSLModel, distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.losses import normalize

ACTIVATIONS = ("relu", "topk", "argmax")
EPSILON = 1e-5


@register(
    paper="Scaling and Evaluating Sparse Autoencoders",
    year=2024,
    family="dictionary learning",
    modality="vectors",
)
class SparseAutoencoder(SSLModel):
    """Writes activations of another network as sums of few out of many learned directions.

    latents = act(E (x - b) + c) and reconstruction = W latents + b, with latents in the thousands
    of which a row uses a few. `fit` takes activations `(B, width)`, cached before; `model(x)` gives
    latents, `model.reconstruction(x)` what they hold, `model.dictionary` the directions.

    | `activation` | keeps | loss |
    |---|---|---|
    | `"relu"` | what is positive | error + `l1` · size of the latents |
    | `"topk"` | the k largest, where positive | error |
    | `"argmax"` | the largest, where positive; `codes(x)` is its number | error |

    The error is relative to the row: mean of ‖x - x̂‖² / ‖x‖². A latent that no row has used for
    more than `dead_after` batches counts as dead. With `auxiliary_k` dead ones learn what the
    living leave: a further term asks the `auxiliary_k` largest of them for the residual, and so
    they return. `metrics.explained_variance`, `active_latents`, `dead_fraction`,
    `mean_max_cosine` and `loss_recovered` measure a dictionary.

    Args:
        width: numbers in an activation.
        latents: number of latents.
        activation: `"relu"`, `"topk"` or `"argmax"`.
        k: latents that a row keeps with `"topk"`.
        l1: weight of the size of latents, 0 for none; `None` is 0.01 with `"relu"`, which is no
            published number, and 0 with the others.
        tied: whether the decoder is the encoder transposed.
        normalize: whether rows are standardised first, and reconstructions put back.
        unit_norm: whether the directions keep length 1, else latents could shrink and directions
            grow against `l1`.
        auxiliary_k: dead latents that the auxiliary term asks; `None` for no such term. The
            released code has 256 of 32768.
        auxiliary_weight: weight of that term.
        dead_after: batches; the released code has 10 million rows in batches of 131072.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an unknown activation, or numbers that do not fit each other.

    Source: Gao et al., 2024; https://arxiv.org/abs/2406.04093, and its released code. `"argmax"` is
    what discrete codes of circuit identification are made of [from an abstract: how its latents are
    trained is inferred]. A row that is standardised is divided by its unbiased deviation plus 1e-5.

    Example:

    ```python
    model = SparseAutoencoder(768, 32768, "topk", k=32, normalize=True, auxiliary_k=256)
    model.adapt(activations)
    model.compile(keras.optimizers.Adam(1e-4, epsilon=6.25e-10))
    model.fit(activations, batch_size=4096)
    ```
    """

    loss_terms = ("reconstruction",)

    def __init__(
        self,
        width: int,
        latents: int,
        activation: str = "relu",
        k: int = 32,
        l1: float | None = None,
        tied: bool = False,
        normalize: bool = False,
        unit_norm: bool = True,
        auxiliary_k: int | None = None,
        auxiliary_weight: float = 1 / 32,
        dead_after: int = 76,
        **kwargs: Any,
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}; received {activation!r}.")
        kept = 1 if activation == "argmax" else k
        if width < 1 or not (activation == "relu" or 1 <= kept <= latents):
            raise ValueError(
                "SparseAutoencoder needs a width of at least 1 and keeps 1 to all of its latents; "
                f"received width={width}, latents={latents} and k={kept}."
            )
        if auxiliary_k is not None and not 1 <= auxiliary_k <= latents:
            raise ValueError(
                f"auxiliary_k asks 1 to all of {latents} latents; received {auxiliary_k}."
            )
        self.l1 = (0.01 if activation == "relu" else 0.0) if l1 is None else float(l1)
        terms = {"sparsity": self.l1 > 0, "auxiliary": auxiliary_k is not None}
        self.loss_terms = ("reconstruction", *(name for name, asked in terms.items() if asked))
        super().__init__(**kwargs)
        self.width, self.latents, self.activation, self.k = width, latents, activation, k
        self.kept, self.tied, self.normalize, self.unit_norm = kept, tied, normalize, unit_norm
        self.auxiliary_k, self.auxiliary_weight = auxiliary_k, auxiliary_weight
        self.dead_after = dead_after
        state = {"dtype": "float32"}
        self.pre_bias = self.add_weight(
            shape=(width,), initializer="zeros", name="pre_bias", **state
        )
        self.latent_bias = self.add_weight(
            shape=(latents,), initializer="zeros", name="latent_bias", **state
        )
        start = keras.initializers.RandomNormal(stddev=1.0, seed=layer_seed(self.seed, 1))
        # The decoder begins as the encoder transposed; of both every latent is a row.
        shape, first = (latents, width), lambda shape, dtype: _unit(start(shape, "float32"))
        self.encoder = self.add_weight(shape=shape, initializer=first, name="encoder", **state)
        self.decoder = None
        if not tied:
            self.decoder = self.add_weight(shape=shape, initializer=first, name="decoder", **state)
        # Batches since a latent was last used.
        self.unused = self.add_weight(
            shape=(latents,), initializer="zeros", dtype="int32", trainable=False, name="unused"
        )
        self.built = True

    # --- parts ------------------------------------------------------------------------------

    @property
    def dictionary(self) -> Any:
        """The directions `(latents, width)`, float32."""
        directions = self.encoder if self.decoder is None else self.decoder
        # Of the step that left the sphere the gradient must not see the length.
        return _unit(directions) if self.unit_norm else ops.convert_to_tensor(directions)

    @property
    def dead(self) -> Any:
        """Which latents no row used for more than `dead_after` batches, bool `(latents,)`."""
        return ops.convert_to_tensor(self.unused) > self.dead_after

    def preprocess(self, x: Any) -> tuple[Any, Any, Any]:
        """Rows as the encoder takes them, with mean and deviation to put them back."""
        x = ops.cast(x, "float32")
        if not self.normalize:
            return x, 0.0, 1.0
        mean = ops.mean(x, axis=-1, keepdims=True)
        squares = ops.sum(ops.square(x - mean), axis=-1, keepdims=True)
        some = squares > 0.0
        deviation = ops.sqrt(ops.where(some, squares, 1.0) / max(self.width - 1, 1))
        deviation = ops.where(some, deviation, 0.0)
        return (x - mean) / (deviation + EPSILON), mean, deviation

    def pre_activations(self, rows: Any) -> Any:
        """`(B, latents)` float32, before the activation, of rows that `preprocess` gave."""
        found = self._matmul(rows - self.pre_bias, ops.transpose(self.encoder))
        return found + self.latent_bias

    def activate(self, pre: Any, kept: int | None = None) -> Any:
        """What is positive, of that the `kept` largest of a row; `None` for all."""
        positive = ops.relu(pre)
        if kept is None or kept >= self.latents:
            return positive
        _, places = ops.top_k(ops.stop_gradient(positive), kept)
        rows = ops.shape(pre)[0]
        row = ops.repeat(ops.arange(rows, dtype="int32"), kept)
        index = ops.stack([row, ops.cast(ops.reshape(places, (-1,)), "int32")], axis=1)
        ones = ops.ones_like(index[:, 0], dtype="float32")
        return positive * ops.scatter(index, ones, (rows, self.latents))

    def decode(self, latents: Any) -> Any:
        """Sums of directions `(B, width)`, float32, standardised where rows were."""
        return self._matmul(latents, self.dictionary) + self.pre_bias

    def _matmul(self, a: Any, b: Any) -> Any:
        a, b = (ops.cast(x, self.compute_dtype) for x in (a, b))
        return ops.cast(ops.matmul(a, b), "float32")

    # --- what users call --------------------------------------------------------------------

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Latents `(B, latents)`, float32, of activations `(B, width)`."""
        rows, _, _ = self.preprocess(self._checked(inputs))
        kept = None if self.activation == "relu" else self.kept
        return self.activate(self.pre_activations(rows), kept)

    def reconstruction(self, x: Any) -> Any:
        """What latents hold of activations `(B, width)`, float32."""
        _, mean, deviation = self.preprocess(x)
        return self.decode(self.call(x)) * deviation + mean

    def codes(self, x: Any) -> Any:
        """The number of the largest latent of every row, int32 `(B,)`."""
        return ops.cast(ops.argmax(self.call(x), axis=-1), "int32")

    def adapt(self, x: Any, iterations: int = 100) -> None:
        """Puts the bias of the samples at their geometric median, before training.

        Args:
            x: activations `(N, width)`; the released code takes 32768.
            iterations: of Weiszfeld's algorithm.
        """
        rows, _, _ = self.preprocess(self._checked(x))
        median = ops.mean(rows, axis=0)
        for _ in range(iterations):
            distance = ops.norm(rows - median, axis=1, keepdims=True)
            weights = 1.0 / ops.maximum(distance, 1e-6)
            median = ops.sum(weights * rows, axis=0) / ops.sum(weights)
        self.pre_bias.assign(median)

    # --- the objective ------------------------------------------------------------------------

    def make_views(self, batch: Any) -> Any:
        """Activations as they are."""
        return self._checked(batch)

    def compute_losses(self, views: Any, training: bool) -> dict[str, Any]:
        """Error, size of latents, and what dead latents say of the rest."""
        rows, mean, deviation = self.preprocess(views)
        pre = self.pre_activations(rows)
        latents = self.activate(pre, None if self.activation == "relu" else self.kept)
        decoded = self.decode(latents)
        dead = (self._counted(latents) if training else self.unused) > self.dead_after
        error = losses.relative_error(decoded * deviation + mean, views)
        found = {"reconstruction": error}
        if "sparsity" in self.loss_terms:
            found["sparsity"] = self.l1 * losses.relative_l1(latents, views)
        if self.auxiliary_k is not None:
            asked = self.activate(ops.where(dead, pre, 0.0), self.auxiliary_k)
            prediction = self._matmul(asked, self.dictionary)
            share = losses.dead_latent_error(prediction, rows - decoded)
            # Without dead latents it would say 1, and nothing could be done about it.
            found["auxiliary"] = ops.where(ops.any(dead), self.auxiliary_weight * share, 0.0)
        return found

    def _counted(self, latents: Any) -> Any:
        """The numbers of batches without use, this one of all replicas included."""
        used = ops.sum(ops.cast(ops.stop_gradient(latents) > 0.0, "float32"), axis=0)
        used = distribution.all_reduce_sum(used) > 0.0
        count = ops.where(used, 0, ops.convert_to_tensor(self.unused)) + 1
        distribution.assign_all([self.unused], [count], equal=True)
        return count

    def after_update(self) -> None:
        """Directions return to length 1."""
        if self.unit_norm:
            directions = self.encoder if self.decoder is None else self.decoder
            distribution.assign_all([directions], [_unit(directions)], equal=True)

    def _checked(self, x: Any) -> Any:
        if len(x.shape) != 2 or x.shape[1] != self.width:
            raise ValueError(
                f"SparseAutoencoder takes activations (batch, {self.width}); received shape "
                f"{tuple(x.shape)}. Give every token or position as a row of its own."
            )
        return x


def _unit(directions: Any) -> Any:
    return normalize(directions, axis=1)
