"""What a user installs: the wheel, in an environment of its own, without the repository."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import documents
import pytest
from documents import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what is tracked or might be, so that the repository stays clean."""
    source, target = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheel")
    names = ["seca_jax", "pyproject.toml", "README.md", "LICENSE"]
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(source)]
    built = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if built.returncode and "setuptools" in built.stderr:
        pytest.skip("pip finds no setuptools to build with")
    assert built.returncode == 0, built.stderr
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a fresh environment with the wheel, which sees the packages that it needs."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place, with_pip=True)
    own = place / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([own, "-c", where], capture_output=True, text=True).stdout.strip())
    # Beyond this environment's own, so that an editable install there is not what is imported
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [own, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, check=True)
    return str(own)


def test_the_wheel_has_all_that_the_package_needs(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "seca_jax").rglob("*")
        if path.suffix in (".py", ".yaml", ".j2", ".css", ".html", ".js") or path.name == "py.typed"
    }
    assert needed <= held and not any(name.startswith(("tests", "docs", "experiments")) for name in held)


def test_the_quick_start_works_from_another_directory(python, tmp_path):
    where = "import seca_jax; print(seca_jax.__file__)"
    alone = {"PYTHONPATH": ""}
    found = subprocess.run([python, "-c", where], cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(Path(python).parents[1]), found.stdout + found.stderr
    documents.done(ROOT / "docs" / "quickstart.md", tmp_path, python, **alone)
    assert {"config.yaml", "curves.png", "battle.gif", "credit_order.png", "report.html"} <= {
        path.name for path in (tmp_path / "runs" / "first").iterdir()
    }


def test_the_commands_are_installed(python, tmp_path):
    for name in ("train", "evaluate", "report", "benchmark", "audit"):
        words = [Path(python).with_name(f"seca-{name}"), "--help"]
        told = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True)
        assert told.returncode == 0 and f"seca_jax.{name}" in told.stdout, told.stderr
