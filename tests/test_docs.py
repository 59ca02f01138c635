# SPDX-License-Identifier: Apache-2.0
"""The documentation's programs run, and it holds what it promises."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall((DOCS / page).read_text())


@pytest.mark.parametrize(
    "page",
    [
        "add_a_method.md",
        pytest.param("bring_your_own_encoder.md", marks=pytest.mark.slow),
        pytest.param("small_parts.md", marks=pytest.mark.slow),
        pytest.param("self_distillation.md", marks=pytest.mark.slow),
        pytest.param("modalities.md", marks=pytest.mark.slow),
        pytest.param("evaluating.md", marks=pytest.mark.slow),
        pytest.param("watching.md", marks=pytest.mark.slow),
    ],
)
def test_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    from keras_ssl.core import registry

    monkeypatch.chdir(tmp_path)
    # A page that registers a method must not leave it in the catalogue of other tests.
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    found = blocks(page)
    assert found
    names = {"__name__": f"docs_{page.removesuffix('.md')}"}
    for number, block in enumerate(found, start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


def test_the_method_of_the_page_is_short():
    lines = [line for line in blocks("add_a_method.md")[0].splitlines() if line.strip()]
    assert len(lines) <= 40


def test_table_of_methods_comes_from_the_catalogue():
    spec = importlib.util.spec_from_file_location("table", DOCS / "tools" / "methods_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.on_page_markdown((DOCS / "methods.md").read_text())
    from keras_ssl.core import registry

    assert module.MARK not in page
    for name, method in registry.methods().items():
        assert f"[`{name}`]" in page and f"{method.paper} ({method.year})" in page


@pytest.mark.slow
def test_table_of_masked_methods_is_made_of_small_models():
    spec = importlib.util.spec_from_file_location("masked", DOCS / "tools" / "masked_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.on_page_markdown((DOCS / "modalities.md").read_text())
    from keras_ssl import models
    from keras_ssl.core import registry

    assert module.MARK not in page and "None" not in page.split("## Any samples")[0]
    for name, method in registry.methods().items():
        assert (f"| `{name}` |" in page) == issubclass(method.cls, models.MaskedModeling)


def test_reference_covers_the_public_package():
    import keras_ssl

    modules = [name for name in keras_ssl.__all__ if name.islower() and name != "load_model"]
    for name in modules:
        page = (DOCS / "api" / f"{name}.md").read_text()
        assert f"::: keras_ssl.{name}\n" in page
        # A function named as its file is hidden behind the file and needs a line of its own.
        for public in getattr(keras_ssl, name).__all__:
            if (ROOT / "keras_ssl" / name / f"{public}.py").exists():
                assert f"::: keras_ssl.{name}.{public}.{public}\n" in page, (name, public)


def test_pages_carry_no_machine_paths():
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"(?<![\w.])/(work|home|root|Users|tmp)/", page.read_text()), page
