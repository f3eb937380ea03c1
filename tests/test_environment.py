"""pyproject.toml, requirements.lock and environment.yml name one and the same environment."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
SYSTEMS = [
    {"sys_platform": system, "python_full_version": f"{python}.4", "python_version": python,
     "platform_machine": machine, "os_name": os_name, "platform_python_implementation": "CPython",
     "implementation_name": "cpython"}
    for system, machine, os_name in (
        ("linux", "x86_64", "posix"), ("linux", "aarch64", "posix"), ("darwin", "arm64", "posix"),
        ("win32", "AMD64", "nt"),
    )
    for python in ("3.11", "3.12", "3.13", "3.14")
]  # fmt: skip


def asked() -> list[Requirement]:
    """The lower bounds of pyproject.toml, its extras included."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def locked() -> list[Requirement]:
    lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    return [Requirement(line) for line in lines]


def test_pyproject_gives_lower_bounds_only() -> None:
    for requirement in asked():
        assert [s.operator for s in requirement.specifier] == [">="], f"{requirement} must be a lower bound"


def test_the_lock_is_exact_and_names_no_index() -> None:
    assert not re.search(r"^\s*-|https?://|file:|@ ", LOCK, re.MULTILINE), "the lock holds an option or an address"
    for requirement in locked():
        assert [s.operator for s in requirement.specifier] == ["=="], f"{requirement} must be exact"


def test_the_lock_satisfies_pyproject_on_every_system() -> None:
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


def test_the_environment_that_runs_this_has_the_locked_versions() -> None:
    from course.doctor import versions

    exact = {canonicalize_name(r.name): str(r.specifier) for r in locked() if r.marker is None}
    for name, version in versions().items():
        if name in exact:
            assert exact[name] == f"=={version}", "the environment is older than the lock: run make again"


def test_conda_installs_the_lock_and_nothing_else() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    python = next(name for name in conda if name.startswith("python")).split("=")[-1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
