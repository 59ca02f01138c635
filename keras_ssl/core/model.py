# SPDX-License-Identifier: Apache-2.0
"""One training step for every self-supervised objective."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_ssl.core import batches, distribution, keras_private
from keras_ssl.core.teacher import Teacher

FORMAT = 1


class SSLModel(keras_private.BuiltBeforeFit, keras.Model):
    """Trains any self-supervised objective with `fit`; a subclass answers three questions.

    The way of the data: batch → `before_step` → `make_views` → `compute_losses` → sum →
    gradients → optimizer → `after_update` → metrics. Each is a method that a subclass may
    override. Build every variable in `__init__`.

    Class attributes:
        loss_terms: names of the losses that `compute_losses` returns; each is logged under
            its name and their sum is minimised as `loss`.
        uses_labels: whether `make_views` gets `(x, y)` (label −1 means unlabelled) instead
            of `x`. Labels never reach an objective otherwise.
        uses_indices: whether `make_views` gets `(x, index)`: for each row its number in the data
            set, from 0 to its attribute `samples` - 1. `fit` numbers arrays itself.
        minimum_batch: fewest rows with which the objective means anything.
        rows_together: number of neighbouring rows that form a group, whole on every replica.
        teachers_move: `"after"` the optimizer (BYOL, DINO) or `"before"` the forward pass (MoCo).
        guides_batches: whether `clusters_of(images, batch_size)` decides which images share a
            batch (G-SimCLR), see `data.GuidedOrder`.
        gradient_watch: what each step calls with (gradients, variables) before the optimizer.

    Constructor arguments must be kept as attributes of the same name: the config that
    `save` stores is read from them.

    Args:
        seed: integer from which initial weights and view randomness derive, or `None`.
        **kwargs: `name` and `dtype`, as for any `keras.Model`.

    Example: see "Add a method" in the documentation.
    """

    loss_terms: tuple[str, ...] = ()
    uses_labels: bool = False
    uses_indices: bool = False
    minimum_batch: int = 1
    rows_together: int = 1
    teachers_move: str = "after"
    guides_batches: bool = False
    gradient_watch: Any = None

    def __init__(self, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not self.loss_terms:
            raise ValueError(
                f"{type(self).__name__}.loss_terms is empty; name there the losses that "
                'compute_losses returns, for example loss_terms = ("nt_xent",).'
            )
        self.seed = seed
        self.term_metrics = [keras.metrics.Mean(name=name) for name in self.loss_terms]
        self.regularization_metric = keras.metrics.Mean(name="regularization")
        self._evaluating = False
        if self.teachers_move == "before":
            self.followed = self.add_weight(
                shape=(),
                initializer=lambda shape, dtype: ops.full(shape, -1, dtype),
                dtype="int32",
                trainable=False,
                name="followed",
            )

    # --- the questions a method answers -------------------------------------------------

    def before_step(self) -> None:
        """What moves before the forward pass. Default: teachers that `teachers_move` before."""
        if self.teachers_move == "before":
            step = ops.cast(self.optimizer.iterations, "int32")
            # Once for all micro-batches of a gradient accumulation.
            new = ops.not_equal(step, self.followed)
            for teacher, student in self.teachers():
                teacher.update(student, step, new)
            distribution.assign_all([self.followed], [step], equal=True)

    def make_views(self, batch: Any) -> Any:
        """What the model sees. Runs on the device, without gradient.

        Args:
            batch: what the data set yields as `x` (or `(x, y)` with `uses_labels`, `(x, index)`
                with `uses_indices`), its structure untouched.

        Returns:
            Anything that `compute_losses` takes. Default: the batch.
        """
        return batch

    def compute_losses(self, views: Any, training: bool) -> dict[str, Any]:
        """What the model is asked.

        Args:
            views: what `make_views` returned.
            training: whether layers run in training mode.

        Returns:
            `{name: scalar}`, one for every name in `loss_terms`; their sum is minimised. A
            scalar is the mean over the rows it is computed for.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute_losses.")

    def teachers(self) -> list[tuple[Teacher, keras.Layer]]:
        """Pairs of a teacher and the network that it follows. Default: none."""
        return []

    def frozen_variables(self) -> list[tuple[Sequence, Any]]:
        """Trainable variables that stand still in some steps. Default: none.

        A frozen variable gets no gradient and keeps its value exactly: neither the decay nor the
        momentum of any optimizer moves it.

        Returns:
            Pairs of variables and a boolean scalar, true where this step leaves them alone; made
            from `optimizer.iterations`, which stands still between the micro-batches of a step.
        """
        return []

    def idle_variables(self) -> list:
        """Variables of this model's networks that its losses never reach. Default: none.

        They are left out of `trainable_variables`: a last norm that only the representation has
        gets no gradient, and no decay either.
        """
        return []

    @property
    def trainable_variables(self) -> list:
        """What the optimizer moves: trainable variables of all parts, but for idle ones."""
        return self._without_idle(super().trainable_variables)

    @property
    def trainable_weights(self) -> list:
        """The same; Keras knows both names."""
        return self._without_idle(super().trainable_weights)

    def _without_idle(self, variables: list) -> list:
        idle = {id(variable) for variable in self.idle_variables()}
        return [v for v in variables if id(v) not in idle]

    def after_update(self) -> None:
        """What moves without gradient after the optimizer. Default: every teacher follows."""
        if self.teachers_move == "after":
            for teacher, student in self.teachers():
                teacher.update(student, self.step_index, self.stepped)

    # --- state of the running step ------------------------------------------------------

    @property
    def step_index(self) -> Any:
        """Index of the optimizer step just taken, 0 for the first."""
        return ops.maximum(ops.cast(self.optimizer.iterations, "int32") - 1, 0)

    @property
    def view_seed(self) -> Any:
        """Seed for the views of this step: `None` (a new one) in training, fixed in evaluation,
        so that `val_loss` of two epochs is comparable."""
        return distribution.fixed_seed(self.seed or 0) if self._evaluating else None

    def now(self, value: Any) -> Any:
        """A number as it is, or what a schedule says at the optimizer's step (0 before `compile`).

        Args:
            value: number, or callable of the number of updates.

        Returns:
            The number, or a float32 scalar.
        """
        if not callable(value):
            return value
        optimizer = getattr(self, "optimizer", None)
        return value(0 if optimizer is None else optimizer.iterations)

    # --- the step ------------------------------------------------------------------------

    def compile(self, optimizer: Any = "adam", *, loss: Any = None, **kwargs: Any) -> None:
        """Configures training; the objective is the class, so there is no loss to give.

        Args:
            optimizer: a Keras optimizer or its name.
            loss: must stay `None`.
            **kwargs: `metrics`, `jit_compile`, `steps_per_execution`, `run_eagerly`, …

        Raises:
            ValueError: if a loss is given.
        """
        if loss is not None:
            raise ValueError(
                f"{type(self).__name__} is its own objective: compile(loss=...) must be left "
                f"out. It minimises {' + '.join(self.loss_terms)}."
            )
        super().compile(optimizer=optimizer, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on one batch. On TensorFlow; other backends bring their own."""
        from keras_ssl.core import tensorflow_step

        return tensorflow_step.train_step(self, data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Losses of one batch, with views from a fixed seed."""
        self._evaluating = True
        try:
            losses = self.losses_of(self.batch_of(data), training=False)
        finally:
            self._evaluating = False
        self.record(losses, data)
        return self.get_metrics_result()

    def batch_of(self, data: Any) -> Any:
        """The part of a yielded element that the objective may see."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.uses_indices:
            return x, batches.indices(self, x, y, required=not self._evaluating)
        if not self.uses_labels:
            return x
        if y is None:
            raise ValueError(
                f"{type(self).__name__} uses labels but the data yields none. Yield (x, y), "
                "with -1 for unlabelled rows."
            )
        return x, y

    def losses_of(self, batch: Any, training: bool) -> dict[str, Any]:
        """Views and losses of a batch, checked against `loss_terms`, with regularization."""
        views = tree.map_structure(_without_gradient, self.make_views(batch))
        losses = dict(self.compute_losses(views, training=training))
        if set(losses) != set(self.loss_terms):
            raise ValueError(
                f"{type(self).__name__}.compute_losses returned {sorted(losses)} but "
                f"loss_terms names {sorted(self.loss_terms)}; make them the same."
            )
        losses = {name: ops.cast(value, "float32") for name, value in losses.items()}
        for name, value in losses.items():
            if len(value.shape) != 0:
                raise ValueError(
                    f"Loss {name!r} has shape {tuple(value.shape)}; return its mean over the "
                    "batch, a scalar."
                )
        if self.losses:
            losses["regularization"] = ops.cast(sum(self.losses), "float32")
        return losses

    def record(self, losses: dict[str, Any], data: Any) -> None:
        """Updates the metrics with the losses of one batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        rows = ops.shape(tree.flatten(x)[0])[0]
        keras_private.loss_tracker(self).update_state(sum(losses.values()), sample_weight=rows)
        for metric in (*self.term_metrics, self.regularization_metric):
            if metric.name in losses:
                metric.update_state(losses[metric.name], sample_weight=rows)
        if keras_private.has_compiled_metrics(self):
            self.compute_metrics(x, y, self(x, training=False), sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """Current value of every metric by name; `regularization` only where there is any."""
        results = super().get_metrics_result()
        if not self.losses:
            results.pop("regularization", None)
        if distribution.worker_count() > 1:
            # Keras averages the logs of several workers over axis 0.
            results = {name: ops.reshape(value, (1,)) for name, value in results.items()}
        return results

    def predict_step(self, data: Any) -> Any:
        """The representation of one batch."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, training=False)

    # --- data ------------------------------------------------------------------------------

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any):
        """Trains on unlabelled data; arguments as `keras.Model.fit`.

        Args:
            x: `tf.data.Dataset`, arrays or `PyDataset` yielding `x`, `(x, y)` or nested
                structures with a leading batch axis.
            y: labels, seen only by classes with `uses_labels`; to leave out with `uses_indices`,
                where a data set yields `(x, index)`.
            batch_size: rows in a global batch, for arrays.
            **kwargs: the other arguments of `keras.Model.fit`.

        Returns:
            `keras.callbacks.History`.
        """
        replicas = self._prepare()
        if self.uses_indices:
            x, y = batches.numbered(self, x, y)
        x, y = self._whole(x, y, batch_size, replicas, kwargs.get("shuffle", True))
        if hasattr(x, "element_spec"):
            kwargs["shuffle"] = False  # Keras warns that a data set keeps its own order.
        if kwargs.get("validation_data") is not None:
            val_x, val_y, weight = keras.utils.unpack_x_y_sample_weight(kwargs["validation_data"])
            size = kwargs.get("validation_batch_size") or batch_size
            val_x, val_y = self._whole(val_x, val_y, size, replicas, False)
            given = (val_x, val_y, weight)
            short = given[:2] if val_y is not None else val_x
            kwargs["validation_data"] = given if weight is not None else short
        with batches.plain_errors():
            return super().fit(x, y, batch_size=batch_size, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any):
        """Losses on data, with views from a fixed seed; arguments as `keras.Model.evaluate`."""
        if not kwargs.get("_use_cached_eval_dataset"):
            x, y = self._whole(x, y, batch_size, self._prepare(), False)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def _whole(self, x: Any, y: Any, size: int | None, replicas: int, shuffle: bool) -> tuple:
        """Data whose batches the objective and the replicas take."""
        least, together = self.minimum_batch, self.rows_together
        return batches.whole_batches(x, y, size, replicas, least, shuffle, together)

    def _prepare(self) -> int:
        replicas = getattr(self.distribute_strategy, "num_replicas_in_sync", 1)
        if replicas > 1:
            self.check_replicas(replicas)
        return replicas

    def check_replicas(self, replicas: int) -> None:
        """Called before training on several replicas; subclasses warn here."""

    # --- saving ------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, read from the attributes of the same name."""
        config = {"name": self.name, "format": FORMAT}
        if self.dtype_policy != keras.config.dtype_policy():
            config["dtype"] = keras.saving.serialize_keras_object(self.dtype_policy)
        for cls in type(self).__mro__:
            if cls is SSLModel.__mro__[1]:
                break
            for name, parameter in inspect.signature(cls.__init__).parameters.items():
                if name == "self" or parameter.kind == parameter.VAR_KEYWORD or name in config:
                    continue
                if hasattr(self, name):
                    value = getattr(self, name)
                    config[name] = keras.saving.serialize_keras_object(value)
        return config

    def _seed_states(self) -> list:
        return [v for v in self.non_trainable_variables if v.name == "seed_generator_state"]

    def save_own_variables(self, store: Any) -> None:
        """Adds the states of all random generators below the model, which Keras leaves out."""
        super().save_own_variables(store)
        for index, state in enumerate(self._seed_states()):
            store[f"seed_{index}"] = state

    def load_own_variables(self, store: Any) -> None:
        """Restores what `save_own_variables` stored."""
        for index, state in enumerate(self._seed_states()):
            state.assign(store[f"seed_{index}"])
        super().load_own_variables({k: store[k] for k in store.keys() if k[:5] != "seed_"})  # noqa: SIM118

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was, with an optimizer ready for its saved state."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> SSLModel:
        """Makes the model from `get_config`.

        Raises:
            ValueError: if the file was written by a newer format.
        """
        config = dict(config)
        written = config.pop("format", FORMAT)
        if written > FORMAT:
            raise ValueError(
                f"This {cls.__name__} was saved in format {written}; this keras_ssl reads up to "
                f"{FORMAT}. Upgrade keras_ssl to load it."
            )
        with keras.saving.custom_object_scope(custom_objects or {}):
            config = {
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, (dict, list))
                else value
                for name, value in config.items()
            }
        return cls(**config)


def _without_gradient(x: Any) -> Any:
    # Views may leave a place empty, such as a mask plan without indices.
    return None if x is None else ops.stop_gradient(x)
