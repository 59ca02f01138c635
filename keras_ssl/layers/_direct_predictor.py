# SPDX-License-Identifier: Apache-2.0
"""A linear predictor that is set from the second moment of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution

FORMS = ("direct", "copy")


@keras.saving.register_keras_serializable(package="keras_ssl")
class DirectPredictor(keras.layers.Layer):
    """A bias-free linear map W whose eigenvectors are those of its inputs' second moment F.

    F is a moving average of the uncentred second moment, `F = rho F + (1 - rho) mean(z z^T)`, the
    first time the moment itself. With `F = U diag(s) U^T`, W is
    `U diag(max(sqrt(max(s, 0) / max(s)) + epsilon, minimum)) U^T` (`form="direct"`) or
    `F + epsilon I` (`form="copy"`, DirectCopy). W is trainable and starts at random, so that it
    learns between two settings; both are kept in float32.

    Input: `(batch, width)`. Output: the same shape, float32.

    Args:
        rho: share of the old F that an update keeps.
        epsilon: added to the eigenvalues of W.
        update_every: optimizer steps from one setting of W to the next.
        minimum: smallest eigenvalue of W, with `form="direct"`.
        form: `"direct"` or `"copy"`.
        seed: of the first W; `None` draws it.
        **kwargs: `name` and other arguments of `keras.layers.Layer`; the dtype is float32.

    Raises:
        ValueError: for an argument outside its range.

    Source: Tian et al., 2021, equations 18 and 19 (https://arxiv.org/abs/2102.06810); DirectCopy:
    Wang et al., 2021 (https://arxiv.org/abs/2110.04947).

    Example:

    ```python
    predictor = DirectPredictor(rho=0.3, epsilon=0.01)
    predictor.update_moment([first, second])  # (B, width) projections of two views
    predictor.set_kernel()
    ```
    """

    def __init__(
        self,
        rho: float = 0.3,
        epsilon: float = 0.01,
        update_every: int = 1,
        minimum: float = 1e-4,
        form: str = "direct",
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Square roots of small eigenvalues do not survive half precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"rho is the share of the old moment, in [0, 1]; received {rho}.")
        if not isinstance(update_every, int) or update_every < 1:
            raise ValueError(
                f"update_every counts optimizer steps, an integer from 1; received {update_every}."
            )
        if not minimum > 0.0:
            raise ValueError(f"minimum is an eigenvalue above 0; received {minimum}.")
        if form not in FORMS:
            raise ValueError(f"form is one of {FORMS}; received {form!r}.")
        self.rho, self.epsilon, self.update_every = rho, epsilon, update_every
        self.minimum, self.form, self.seed = minimum, form, seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes W, F and the state that tells a first batch.

        Raises:
            ValueError: if inputs are not vectors of a fixed width.
        """
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"{self.name} takes vectors (batch, width), received shape {tuple(input_shape)}."
            )
        shape = (input_shape[-1], input_shape[-1])
        # Uniform within 1 / sqrt(width), as the released code starts.
        start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=self.seed)
        self.kernel = self.add_weight(shape=shape, initializer=start, name="kernel")
        fixed = {"initializer": "zeros", "trainable": False}
        self.moment = self.add_weight(shape=shape, name="moment", **fixed)
        self.seen = self.add_weight(shape=(), dtype="int32", name="seen", **fixed)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Predictions `(B, width)`, float32."""
        return ops.matmul(ops.cast(inputs, "float32"), self.kernel)

    def update_moment(self, views: Sequence) -> None:
        """Moves F by the inputs of one batch, those of all replicas.

        Args:
            views: list of `(B, width)` inputs, one per view, as the layer gets them; the rows of
                this replica. No gradient flows into them.

        Raises:
            ValueError: if it is no list, or a view has another width.
        """
        if not isinstance(views, (list, tuple)):
            raise ValueError(
                f"{self.name}.update_moment takes a list with one (batch, width) tensor per "
                f"view; received a {type(views).__name__}."
            )
        for view in views:
            if len(view.shape) != 2 or self.built and view.shape[1] != self.kernel.shape[0]:
                raise ValueError(
                    f"{self.name} takes inputs (batch, width) with the width that it was built "
                    f"for, received shape {tuple(view.shape)}."
                )
        if not self.built:
            self.build((None, views[0].shape[1]))
        rows = ops.concatenate([ops.cast(view, "float32") for view in views], axis=0)
        rows = ops.stop_gradient(rows)
        count = ops.cast(ops.shape(rows)[0], "float32")
        products = ops.matmul(ops.transpose(rows), rows)
        products, count = distribution.all_reduce_sum([products, count])
        rho = ops.where(ops.equal(self.seen, 0), 0.0, self.rho)
        moved = rho * self.moment + (1.0 - rho) * (products / count)
        seen = ops.ones_like(self.seen)
        distribution.assign_all([self.moment, self.seen], [moved, seen], equal=True)

    def set_kernel(self, step: Any = 0, stepped: Any = True) -> None:
        """Sets W from F where it is due; elsewhere, and before the first batch, W stays.

        Args:
            step: index of the optimizer step just taken, 0 for the first; W is set after steps 0,
                `update_every`, 2 · `update_every`, ….
            stepped: boolean; False for a micro-batch of gradient accumulation.
        """
        turn = ops.equal(ops.mod(ops.cast(step, "int32"), self.update_every), 0)
        due = ops.logical_and(ops.logical_and(stepped, turn), self.seen > 0)
        moment, old = (ops.convert_to_tensor(v) for v in (self.moment, self.kernel))
        new = ops.cond(due, lambda: self.kernel_of(moment), lambda: old)
        distribution.assign_all([self.kernel], [new], equal=True)

    def kernel_of(self, moment: Any) -> Any:
        """W of a second moment.

        Args:
            moment: `(width, width)` symmetric, float32.

        Returns:
            `(width, width)` symmetric, float32; `max(epsilon, minimum) I` of a zero moment
            (`epsilon I` with `form="copy"`).
        """
        if self.form == "copy":
            return moment + self.epsilon * ops.eye(moment.shape[0], dtype="float32")
        values, vectors = ops.linalg.eigh(moment)
        largest = ops.max(values)
        share = ops.where(largest > 0.0, values / ops.where(largest > 0.0, largest, 1.0), 0.0)
        # Below the resolution of the decomposition an eigenvalue is rounding, not signal, and
        # its square root would be a thousand times larger.
        resolution = float(np.finfo("float32").eps) * moment.shape[0] ** 0.5
        share = ops.where(share > resolution, share, 0.0)
        eigenvalues = ops.maximum(ops.sqrt(share) + self.epsilon, self.minimum)
        kernel = ops.matmul(vectors * eigenvalues, ops.transpose(vectors))
        return 0.5 * (kernel + ops.transpose(kernel))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = ("rho", "epsilon", "update_every", "minimum", "form", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
