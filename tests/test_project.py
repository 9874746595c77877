"""The project's own files agree with each other."""

import ast
import hashlib
import json
import re
import tomllib
from collections.abc import Collection
from itertools import chain
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from app.config import Settings
from app.container import VERSION
from app.devdb import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = tomllib.loads((PROJECT / "poetry.lock").read_text(encoding="utf-8"))
DEPENDENCIES: list[str] = PYPROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
DEV = PYPROJECT["tool"]["poetry"]["group"]["dev"]["dependencies"]
MANIFESTS = PYPROJECT["tool"]["poetry"]["group"]["manifests"]["dependencies"]


def exported(name: str) -> dict[str, tuple[str, set[str]]]:
    """Package to version and hashes."""
    text = (PROJECT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", "")
    pins = {}
    for line in text.splitlines():
        match = re.match(r"([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", line)
        assert match, line
        pins[match[1]] = (match[2], set(re.findall(r"--hash=(\S+)", line)))
    return pins


def locked(*groups: str, extras: Collection[str] = ()) -> dict[str, tuple[str, set[str]]]:
    return {
        package["name"]: (package["version"], {file["hash"] for file in package["files"]})
        for package in LOCK["package"]
        if any(is_wanted(package, group, extras) for group in groups)
    }


def is_wanted(package: dict[str, Any], group: str, extras: Collection[str]) -> bool:
    """A marker that asks for an extra stands for all of the package, or for a group of it."""
    markers = package.get("markers", "")
    marker = markers if isinstance(markers, str) else markers.get(group, "")
    asked = set(re.findall(r'extra == "([a-z]+)"', marker))
    return group in package["groups"] and (not asked or not asked.isdisjoint(extras))


@pytest.mark.parametrize(
    ("name", "groups", "extras"),
    [
        ("main.txt", ["main"], []),
        ("tracing.txt", ["main"], ["tracing"]),
        ("dev.txt", ["main", "dev"], []),
        ("manifests.txt", ["manifests"], []),
    ],
)
def test_the_exported_requirements_are_the_lock(name: str, groups: list[str], extras: list[str]) -> None:
    assert exported(name) == locked(*groups, extras=extras)


def test_production_is_exported_without_what_sends_traces() -> None:
    extra = {Requirement(line).name for line in EXTRAS["tracing"]}

    assert not extra & exported("main.txt").keys()
    assert extra <= exported("tracing.txt").keys()
    assert extra <= exported("dev.txt").keys()


def test_the_lock_is_of_this_pyproject() -> None:
    """Poetry's own fingerprint: see `Locker._get_content_hash` in poetry/packages/locker.py."""
    keys = ("requires-python", "dependencies", "optional-dependencies")
    project = {key: PYPROJECT["project"][key] for key in keys}
    relevant = {"project": project, "tool": {"poetry": {"group": PYPROJECT["tool"]["poetry"]["group"]}}}
    fingerprint = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()

    assert LOCK["metadata"]["content-hash"] == fingerprint


def test_the_lock_satisfies_every_dependency() -> None:
    locked_all = locked("main", "dev", extras=EXTRAS)
    versions = {name: version for name, (version, _) in locked_all.items()}
    wanted = [*DEPENDENCIES, *chain(*EXTRAS.values()), *(f"{name} ({spec})" for name, spec in DEV.items())]

    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_no_lock_names_an_index() -> None:
    assert all("source" not in package for package in LOCK["package"])
    for path in (PROJECT / "requirements").glob("*.txt"):
        assert "://" not in path.read_text(encoding="utf-8"), path


def test_every_dependency_has_its_line() -> None:
    text = (PROJECT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"(?m)^\| `([a-z0-9-]+)`", text))
    direct = {Requirement(line).name for line in chain(DEPENDENCIES, *EXTRAS.values())}

    assert documented == {*direct, *DEV, *MANIFESTS}


@pytest.mark.parametrize(("package", "file"), [("passlib", "passwords.py"), ("jose", "jws.py")])
def test_what_sleeps_is_imported_in_one_file(package: str, file: str) -> None:
    importers = [
        path.relative_to(PROJECT)
        for path in (PROJECT / "app").rglob("*.py")
        if re.search(rf"(?m)^\s*(from|import) {package}\b", path.read_text(encoding="utf-8"))
    ]

    assert [str(path) for path in importers] == [f"app/security/{file}"]


def test_alembic_is_no_package_of_ours() -> None:
    assert not (PROJECT / "alembic" / "__init__.py").exists()


def test_compose_passes_every_setting_on() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text(encoding="utf-8"))
    names = {name.upper() for name in Settings.model_fields}

    assert set(compose["services"]["auth"]["environment"]) == names | {"FORWARDED_ALLOW_IPS"}


def test_the_version_of_the_project_is_in_one_place() -> None:
    version = PYPROJECT["project"]["version"]
    files = [PROJECT / "Dockerfile", *(PROJECT / "app").rglob("*.py"), *(PROJECT / ".github").rglob("*.yml")]

    assert version == VERSION
    assert not [str(file) for file in files if version in file.read_text(encoding="utf-8")]
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    assert (
        "COPY LICENSE alembic.ini pyproject.toml ./" in dockerfile
    )  # the application reads its version there


def test_the_changelog_begins_with_what_is_unreleased_and_has_the_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    kinds = set(re.findall(r"^### (.*)$", changelog, re.MULTILINE))

    assert headings[0] == "[Unreleased]"
    assert headings[1].startswith(f"[{PYPROJECT['project']['version']}] - 20")
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_target_that_a_workflow_makes_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    workflows = [
        yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in (PROJECT / ".github" / "workflows").glob("*.yml")
    ]
    steps = [step for flow in workflows for job in flow["jobs"].values() for step in job.get("steps", ())]
    made = {step["run"].removeprefix("make ") for step in steps if step.get("run", "").startswith("make ")}

    assert made == {"check", "clients-test", "docker-test"}
    assert made <= targets


def test_a_lost_database_restarts_no_container() -> None:
    """An orchestrator may restart what is not healthy, so the image asks the process alone."""
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")

    (asked,) = re.findall(r"127\.0\.0\.1:8000(/[^']*)'", dockerfile)
    assert asked == "/api/v1/health/live"


def test_production_has_no_password_of_everybody() -> None:
    overlay = (PROJECT / "docker-compose.prod.yml").read_text(encoding="utf-8")

    for secret in ("SECRET_KEY", "DATABASE_URL", "POSTGRES_PASSWORD"):
        assert re.findall(rf"\$\{{{secret}(..)", overlay) == [":?"]


def test_every_test_that_a_document_names_exists() -> None:
    defined = {
        f"tests/{path.name}::{statement.name}"
        for path in (PROJECT / "tests").glob("*.py")
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.FunctionDef)
    }
    documents = [path.read_text(encoding="utf-8") for path in (PROJECT / "docs").glob("*.md")]
    named = set(re.findall(r"`(tests/[^`]*::[^`]*)`", "".join(documents)))

    assert len(named) > 50
    assert named - defined == set()


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
