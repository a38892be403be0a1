"""The documents: every example is run, every word of a command known, every link leads somewhere."""

import ast
import importlib
import re
from pathlib import Path

import documents
import pytest
import yaml
from documents import ELSEWHERE, NOTEBOOKS, PAGES, ROOT

import seca_jax
from seca_jax import audit, evaluate, train

REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
MEASURED = sorted((ROOT / "experiments").glob("*.md"))
KINDS = {"bash", "python", "yaml", "toml", "diff", "bibtex", "text"}
QUICK = ("how_seca_works.md",)  # pages whose examples compile next to nothing
LINK = re.compile(r"\]\(([^()\s]+)\)")


def named(pages):
    return [pytest.param(page, id=page.name) for page in pages]


def slugs(page):
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    named([*PAGES, *NOTEBOOKS, *REFERENCE, *MEASURED, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]),
)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", path):
            continue
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), target
        if anchor and goal.suffix == ".py":
            tree = ast.parse(goal.read_text()).body
            assert anchor in {getattr(node, "name", None) for node in tree}, target
        elif anchor and goal.suffix == ".md":
            assert anchor in slugs(goal), target


@pytest.mark.parametrize("page", named(PAGES))
def test_every_block_says_what_it_is(page):
    text = page.read_text()
    assert text.count("\n```") == 2 * len(documents.blocks(page)), (
        "a fence that is not closed, or is indented"
    )
    for block in documents.blocks(page):
        assert block.kind in KINDS, f"{page.name}:{block.line}"
        if block.kind == "python":
            ast.parse(block.text)


def test_every_exception_is_needed():
    for start in documents.NOT_DONE:
        assert any(block.text.startswith(start) for page in PAGES for block in documents.blocks(page)), start
    assert {page.name for page in PAGES} > set(ELSEWHERE)


@pytest.mark.parametrize("page", named(page for page in PAGES if page.name not in ELSEWHERE))
def test_every_command_is_understood(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = documents.blocks(page)
    for block in found:
        if block.file:
            Path(block.file).write_text(block.text)
    for command, *words in [
        command for block in found if block.kind == "bash" for command in documents.commands(block)
    ]:
        if command == "train" and "--help" not in words:
            # What wants a run to be there waits for the slow tests
            train.plan([word for word in words if not word.startswith(("resume=", "init"))])
        elif command in ("evaluate", "audit"):
            Path(words[0]).mkdir(parents=True, exist_ok=True)
            {"evaluate": evaluate, "audit": audit}[command].options(words)
        else:
            assert importlib.import_module(f"seca_jax.{command}")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=() if page.name in QUICK else pytest.mark.slow)
        for page in PAGES
        if page.name not in ELSEWHERE and documents.blocks(page)
    ],
)
def test_every_example_runs(page, tmp_path):
    documents.done(page, tmp_path)


@pytest.mark.parametrize("page", named(NOTEBOOKS))
def test_every_notebook_runs(page, tmp_path):
    said = documents.done(page, tmp_path)
    assert re.search(r"(won|lost|time limit) after \d+ steps; order of assessment: \[\d, \d, \d\]", said)


@pytest.mark.slow
def test_the_notebook_learns_3m(tmp_path):
    page = ROOT / "docs" / "train_3m.ipynb"
    said = documents.done(page, tmp_path, whole=True, JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS="")
    rates = re.search(r"done \[ *([\d.]+) +([\d.]+) *\]", said)
    assert min(map(float, rates.groups())) > 0.4, said


def test_the_reference_has_every_module():
    package = ROOT / "seca_jax"
    expected = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    told = {
        module for page in REFERENCE for module in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    assert expected <= told and told - expected <= {"seca_jax.algos", "seca_jax.envs"}


def test_every_page_is_in_the_navigation():
    told = set(re.findall(r"(\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = [*PAGES[1:], *NOTEBOOKS, *REFERENCE]
    assert {page.relative_to(ROOT / "docs").as_posix() for page in pages} <= told


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="make docs installs it")
    import subprocess
    import sys

    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citations_agree():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = told["references"]
    (text,) = [block.text for block in documents.blocks(ROOT / "README.md") if block.kind == "bibtex"]
    authors = " and ".join(
        f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]
    )
    assert [paper["title"], told["title"]] == re.findall(r"\btitle += \{(.*)\}", text)
    assert f"{{{authors}}}" in text and f"{{{paper['collection-title']}}}" in text and paper["url"] in text
    assert str(told["version"]) == re.search(r"version = \{(.*)\}", text)[1] == seca_jax.__version__
    assert re.findall(r"year +?= \{(\d+)\}", text) == [str(paper["year"]), str(told["date-released"].year)]
