"""pyproject.toml, requirements.lock and environment.yml name one and the same environment."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course.doctor import PACKAGES, versions
from srlib.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
SYSTEMS = [
    {"sys_platform": system, "python_full_version": f"{python}.4", "python_version": python, "os_name": name,
     "platform_machine": machine, "platform_python_implementation": "CPython", "implementation_name": "cpython"}
    for system, machine, name in [("linux", "x86_64", "posix"), ("linux", "aarch64", "posix"),
                                  ("darwin", "arm64", "posix"), ("win32", "AMD64", "nt")]
    for python in ("3.11", "3.12", "3.13", "3.14")
]  # fmt: skip


def test_the_lock_is_exact_and_satisfies_pyproject_on_every_system_and_here():
    assert not re.search(r"^\s*-|https?://|file:|@ ", LOCK, re.MULTILINE), "the lock holds an option or an address"
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name != "peers"]
    asked = [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]
    locked = [Requirement(line) for line in LOCK.splitlines() if re.match(r"\w", line)]
    assert {s.operator for requirement in locked for s in requirement.specifier} == {"=="}
    for system in SYSTEMS:
        found = [r for r in locked if r.marker is None or r.marker.evaluate(system)]
        exact = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in found}
        assert len(exact) == len(found), f"something is locked twice on {system}"
        for requirement in asked:
            if requirement.name != PROJECT["name"]:
                version = exact[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(version), f"{requirement.name} {version}, need {requirement}"
    here = versions()
    for requirement in locked:
        if requirement.marker is None and requirement.name in PACKAGES:
            older = "the environment is older than the lock: run make again"
            assert str(requirement.specifier) == f"=={here[requirement.name]}", older


def test_conda_installs_the_lock_and_nothing_else():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [re.split(r"[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    python = next(name for name in conda if name.startswith("python")).split("=")[-1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
