"""pyproject.toml, requirements.lock and environment.yml name one and the same environment."""

import re
import subprocess
import sys
import tomllib

import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course.doctor import PACKAGES, versions
from srlib.files import ROOT
from srlib.images import degrade

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()


def test_the_lock_is_exact_and_satisfies_pyproject_and_is_what_is_installed():
    assert not re.search(r"^\s*-|https?://|file:|@ ", LOCK, re.MULTILINE), "the lock holds an option or an address"
    locked: dict[str, set[str]] = {}  # another version for some systems
    for requirement in (Requirement(line) for line in LOCK.splitlines() if re.match(r"\w", line)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        locked.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name != "peers"]
    for line in sum(extras, PROJECT["dependencies"]):
        if (asked := Requirement(line)).name != PROJECT["name"]:
            found = locked[canonicalize_name(asked.name)]
            assert all(map(asked.specifier.contains, found)), f"{asked} is needed, {found} locked"
    assert all(versions()[name] in locked[name] for name in PACKAGES), "older than the lock: run make again"


def test_conda_installs_the_lock_and_nothing_else():
    python, *pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == ["pip", {"pip": ["-r requirements.lock"]}]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.removeprefix("python="))


def test_importing_srlib_does_not_load_the_compiler():
    """It takes twice as long as PyTorch itself, and few need it."""
    run = "import sys, srlib.commands.upscale, srlib.commands.train; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", run]).returncode == 0
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(degrade._constant) == vars(marked), "a compiler takes matrices as constants"
