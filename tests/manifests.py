"""Holds deploy/kubernetes to the schemas of Kubernetes: make manifests. No cluster is asked.

Of custom resources the package has no schema; tests/test_kubernetes.py knows the fields that we use.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from app.devdb import PROJECT

FOLDER: Final = PROJECT / "deploy" / "kubernetes"
OVERLAYS: Final = ("development", "production")
VERSIONS: Final = ("1.32", "1.37")
"""Between these it is meant to run; each has the fields of the first, unless they were removed."""
ALERTS: Final = PROJECT / "deploy" / "prometheus" / "alerts.yml"
RULE: Final = FOLDER / "production" / "alerts.yaml"
CUSTOM: Final = ("barmancloud.cnpg.io", "external-secrets.io", "monitoring.coreos.com", "postgresql.cnpg.io")
_HEAD: Final = """# Written by `make prometheus-rule` from deploy/prometheus/alerts.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: auth
spec:
"""


def rendered(overlay: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(folder / overlay)]
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    if result.returncode:
        raise SystemExit(f"{overlay}: {result.stderr}")
    return list(yaml.safe_load_all(result.stdout))


def write_alerts() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    groups = text[text.index("groups:") :].splitlines(keepends=True)
    RULE.write_text(_HEAD + "".join(f"  {line}" if line.strip() else line for line in groups), "utf-8")


def main() -> None:
    if not shutil.which("kubectl"):
        print("There is no kubectl here: the manifests are not held to the schemas.")
        return
    import kubernetes_validate  # noqa: PLC0415 — apart from the other packages: requirements/manifests.txt

    for overlay in OVERLAYS:
        for each in rendered(overlay):
            if each["apiVersion"].split("/")[0] in CUSTOM:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(each, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = f"{overlay}: {each['kind']} {each['metadata']['name']}, Kubernetes {version}"
                    raise SystemExit(f"{where}: {'.'.join(map(str, error.path))}: {error.message}") from None
    print(f"The manifests agree with Kubernetes {' and '.join(VERSIONS)}.")


if __name__ == "__main__":
    write_alerts() if "--write-alerts" in sys.argv else main()
