# SPDX-License-Identifier: Apache-2.0
"""Four logical CPU devices, the rotating third of slow tests, and strict data tests."""

import gc
import importlib.metadata
import os
import pathlib
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Half of the time of many short tests is the compiler's, for programs that run once or twice. XLA
# ends a process for a flag that it does not know, and only the first of these is there to stay.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + (
        " --xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true"
        if importlib.metadata.version("tensorflow").startswith("2.21.")
        else ""
    ),
)

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    # The same holds for TensorFlow's improvements of graphs.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Workers share the cores already.
        tf.config.threading.set_intra_op_parallelism_threads(1)

    build_strategy = tf.distribute.MirroredStrategy.__init__

    def build_apart(strategy, *args, **kwargs):
        """Every strategy numbers its groups from one, and would join those of another's."""
        tf.distribute.MirroredStrategy._collective_key_base += 1000
        build_strategy(strategy, *args, **kwargs)

    tf.distribute.MirroredStrategy.__init__ = build_apart

# What is imported by now stays, and tracing makes garbage of short life: looking through all of it
# again and again takes a twentieth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)


TESTS = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Now and then garbage goes, and between two files what is left is not looked through again.

    Models are garbage in circles: without this they stay, gigabytes of them. And a collection of
    everything touches memory that nobody has used for minutes. Where the host has taken it back
    meanwhile, that alone stops a test for half a minute and more.
    """
    ran = item.config.stash[TESTS] = item.config.stash.get(TESTS, 0) + 1
    end_of_file = nextitem is None or nextitem.path != item.path
    if end_of_file or ran % 10 == 0:
        gc.collect()
    if end_of_file:
        gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Leaves out `slow` tests unless asked for; `KERAS_SSL_SLOW_THIRD` takes a third of them."""
    third = os.environ.get("KERAS_SSL_SLOW_THIRD")
    wanted = "slow" in (config.option.markexpr or "")
    named = any("::" in str(argument) for argument in config.args)
    keep, drop = [], []
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        if slow and third is not None:
            # By its name: a test that comes or goes moves no other one.
            mine = zlib.crc32(item.nodeid.encode()) % 3 == int(third) % 3
            (keep if mine else drop).append(item)
        elif slow and not (wanted or named):
            drop.append(item)
        else:
            keep.append(item)
    if third is not None:
        # Runs of minutes first: a last one alone would leave the other process idle.
        keep.sort(key=lambda item: "test_learning" not in item.nodeid)
    items[:] = keep
    if drop:
        config.hook.pytest_deselected(items=drop)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turns a skipped data test into a failure where data is promised."""
    outcome = yield
    report = outcome.get_result()
    strict = os.environ.get("KERAS_SSL_STRICT_DATA") and os.environ.get("KERAS_SSL_DATA")
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped although KERAS_SSL_DATA is set: {report.longrepr}"


@pytest.fixture
def data_dir() -> pathlib.Path:
    """Folder of real data sets; skips where there is none."""
    folder = os.environ.get("KERAS_SSL_DATA")
    if not folder:
        pytest.skip("KERAS_SSL_DATA is not set: this test needs the real data sets")
    return pathlib.Path(folder)


@pytest.fixture
def eagerly():
    """No function is traced, which takes longer than a few small steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def without_graphs(request, monkeypatch):
    """Models on one device run op by op: tracing a step takes longer than few of them do.

    A slow test has many steps, and keeps its graphs.
    """
    from keras_ssl.core import SSLModel

    if request.node.get_closest_marker("slow"):
        return
    compile_model = SSLModel.compile

    def compile_without_graph(model, *args, **kwargs):
        one = model.distribute_strategy.num_replicas_in_sync == 1
        compile_model(
            model, *args, **{"run_eagerly": one and not kwargs.get("jit_compile"), **kwargs}
        )

    monkeypatch.setattr(SSLModel, "compile", compile_without_graph)


@pytest.fixture(autouse=True)
def clean_state():
    """Each test starts from the same seed and from float32."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
