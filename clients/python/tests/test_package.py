"""What siblings install."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_the_package_builds_and_holds_all_that_it_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(PROJECT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("kanban_auth_verify-*.whl")
    assert len(list(tmp_path.glob("kanban_auth_verify-*.tar.gz"))) == 1

    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    program = (
        "import kanban_auth_verify.fastapi, kanban_auth_verify.testing; print(kanban_auth_verify.__file__)"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(installed)}, text=True
    )

    package = installed / "kanban_auth_verify"
    assert Path(output.strip()) == package / "__init__.py"
    assert (package / "py.typed").exists()


def test_the_versions_of_both_clients_are_one() -> None:
    python = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    typescript = (PROJECT.parent / "typescript" / "package.json").read_text(encoding="utf-8")

    assert f'"version": "{python}"' in typescript


def test_the_lock_of_the_other_client_names_no_registry() -> None:
    lock = (PROJECT.parent / "typescript" / "package-lock.json").read_text(encoding="utf-8")

    assert '"resolved"' not in lock
