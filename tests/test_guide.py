"""What is written about the package holds: the guide's Python runs, files and links that pages name are there."""

import re
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")])
BESIDE = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names = {"__name__": page.stem}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], page, "exec"), names)


def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    exec(compile(block, "README.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"components.png", "photographs.npz"}


def anchors(page: Path) -> set[str]:
    """Return the places of a page that a link can name: its headings, as they are named in an address."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", BESIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_table_of_files_is_that_of_the_files():
    patterns = []
    for cell in re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE):
        first, *others = re.findall(r"`(.*?)`", cell)
        folder = first.rpartition("/")[0]
        patterns += [first, *(each if "/" in each else f"{folder}/{each}" for each in others)]
    for pattern in patterns:
        assert list(ROOT.glob(pattern.rstrip("/"))), f"there is no {pattern}"
    files = chain(ROOT.glob("cpp/*.[ch]pp"), ROOT.glob("python/convgmm/[!_]*.py"), ROOT.glob("python/convgmm/*/"))
    for file in files:
        path = str(file.relative_to(ROOT)) + "/" * file.is_dir()
        if not path.endswith("__pycache__/"):
            assert any(fnmatch(path, pattern) for pattern in patterns), f"CONTRIBUTING does not say what {path} is for"
