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


def asked() -> list[Requirement]:
    """The lower bounds of pyproject.toml, its extras included, but for the published networks of one benchmark."""
    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], *(extras[name] for name in extras if name != "peers")]
    return [found for group in groups for line in group if (found := Requirement(line)).name != PROJECT["name"]]


def locked() -> list[Requirement]:
    return [Requirement(line) for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]


def test_pyproject_gives_lower_bounds_and_the_lock_is_exact_and_names_no_index():
    assert not re.search(r"^\s*-|https?://|file:|@ ", LOCK, re.MULTILINE), "the lock holds an option or an address"
    assert {s.operator for requirement in asked() for s in requirement.specifier} == {">="}
    assert {s.operator for requirement in locked() for s in requirement.specifier} == {"=="}


def test_the_lock_satisfies_pyproject_on_every_system():
    for system in SYSTEMS:
        versions = {}
        for requirement in locked():
            if requirement.marker is None or requirement.marker.evaluate(system):
                name = canonicalize_name(requirement.name)
                assert name not in versions, f"{name} is locked twice on {system}"
                (versions[name],) = (s.version for s in requirement.specifier)
        for requirement in asked():
            name = canonicalize_name(requirement.name)
            assert name in versions, f"{name} is not in the lock on {system}"
            assert requirement.specifier.contains(versions[name]), f"{name} {versions[name]}, need {requirement}"


def test_the_environment_that_runs_this_has_the_locked_versions():
    exact = {canonicalize_name(r.name): str(r.specifier) for r in locked() if r.marker is None}
    assert set(PACKAGES) & set(exact)
    for name in set(PACKAGES) & set(exact):
        assert exact[name] == f"=={versions()[name]}", "the environment is older than the lock: run make again"


def test_conda_installs_the_lock_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    python = next(name for name in conda if name.startswith("python")).split("=")[-1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
