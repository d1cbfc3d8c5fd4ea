"""The documents tell the truth: their Python runs, their commands run, their links lead somewhere."""

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
)
MODULES = [p for p in sorted((ROOT / "deqlight").rglob("*.py")) if ">>> " in p.read_text()]
BRIEF = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.accelerator=cpu",
]
SAVED = re.compile(r"Save this as `(\w+\.py)`.*?^```python\n(.*?)^```", re.S | re.M)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def having(language):
    return [page for page in PAGES if blocks(page, language)]


def name(path):
    return str(path.relative_to(ROOT))


def run(words, folder):
    """In a process and folder of its own: the pages' classes must not meet those of other tests."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DEQLIGHT_STRICT_PLUGINS": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path, request):
    """A folder that holds the files which the page tells its reader to save."""
    for file, code in SAVED.findall(request.getfixturevalue("page").read_text()):
        (tmp_path / file).write_text(code)
    return tmp_path


@pytest.mark.parametrize("page", having("python"), ids=name)
def test_python_blocks_run_one_after_the_other(page, folder):
    script = folder / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    run([sys.executable, str(script)], folder)


@pytest.mark.parametrize("page", having("sh"), ids=name)
def test_commands_run_one_after_the_other(page, folder, monkeypatch):
    """Those of deqlight, in short runs; installing and the make targets have their own tests."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.strip().startswith("deqlight ")]
    assert commands
    for words in commands:
        inline = "--plugin" in words
        monkeypatch.setenv("DEQLIGHT_DISABLE_PLUGINS", "sspms" if inline else "")
        brief = BRIEF if "fit" in words else []
        folder_or_root = folder if inline or brief or {"--ckpt_path", "compare"} & {*words} else ROOT
        run([sys.executable, "-m", "deqlight", *words[1:], *brief], folder_or_root)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_examples_in_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
