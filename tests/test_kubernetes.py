"""What deploy/kubernetes says of the service is true; tests/manifests.py asks the schemas of Kubernetes."""

import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from app.config import Settings
from app.devdb import PROJECT
from app.serve import GRACE_SECONDS, MIGRATE_ONLY
from tests.manifests import ALERTS, FOLDER, OVERLAYS, RULE, rendered
from tests.support import HEALTH, LIVE, Api

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed"),
]
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
OF_UVICORN = {"FORWARDED_ALLOW_IPS"}
FIELDS = {
    "Cluster": """
        instances imageName primaryUpdateStrategy postgresql synchronous method number dataDurability
        failoverQuorum parameters bootstrap initdb database owner dataChecksums postInitApplicationSQL managed
        roles name ensure login passwordSecret affinity podAntiAffinityType topologyKey resources requests
        limits cpu memory storage walStorage size plugins isWALArchiver""",
    "ObjectStore": """
        retentionPolicy configuration destinationPath s3Credentials inheritFromIAMRole wal data
        compression""",
    "ScheduledBackup": "schedule backupOwnerReference cluster name method pluginConfiguration",
    "ExternalSecret": """
        refreshInterval secretStoreRef kind name target template type metadata labels data dataFrom extract
        key""",
    "ServiceMonitor": """
        selector matchLabels endpoints port path interval authorization credentials name key""",
}
"""Of custom resources, whose schemas are in no package: as their documentation has them, of October 2026."""
OF_CLOUDNATIVEPG = {
    "auth-db-app": {"uri": "postgresql://kanban_owner:x@auth-db-rw.auth:5432/kanban_auth"},
    "auth-db-ca": {"ca.crt": "a certificate", "ca.key": "its key"},
}
FREE = {"parameters", "matchLabels", "labels", "data"}
"""Whoever uses them chooses what is in them."""


class Overlay:
    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.name = name
        self.all = rendered(name, folder)

    def one(self, kind: str, name: str = "auth") -> Any:
        """By the name that it has without the hash of what is in it."""
        found = [
            each for each in self.all
            if each["kind"] == kind and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", each["metadata"]["name"])
        ]  # fmt: skip
        assert len(found) == 1, (kind, name)
        return found[0]

    def pods(self) -> list[Any]:
        """Of the server, and of the migration."""
        workloads = (self.one("Deployment"), self.one("Job", "auth-migration"))
        return [each["spec"]["template"]["spec"] for each in workloads]

    def secret(self, name: str) -> dict[str, str]:
        """What is in it, with a value of ours for each of a vault's."""
        for each in self.all:
            if each["kind"] == "Secret" and each["metadata"]["name"] == name:
                return {key: b64decode(value).decode() for key, value in each["data"].items()}
            if each["kind"] == "ExternalSecret" and each["spec"]["target"]["name"] == name:
                data: dict[str, str] = each["spec"]["target"]["template"]["data"]
                return {key: re.sub(r"{{ \.(\w+) }}", _of_vault, value) for key, value in data.items()}
        return OF_CLOUDNATIVEPG[name]


def _of_vault(found: re.Match[str]) -> str:
    return "smtp://u:p@mail.example.com" if found[1] == "smtp_url" else token_hex(32)


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return Overlay(request.param)


@pytest.fixture(scope="module")
def production() -> Overlay:
    return Overlay("production")


def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


def environment(overlay: Overlay, pod: Any) -> dict[str, str]:
    """What may be left out is left out."""
    settings: dict[str, str] = {}
    for source in container(pod).get("envFrom", []):
        assert source["configMapRef"]["name"] == overlay.one("ConfigMap")["metadata"]["name"]
        settings |= overlay.one("ConfigMap")["data"]
    return settings | {each["name"]: each["value"] for each in container(pod)["env"] if "value" in each}


def test_every_variable_is_a_setting(overlay: Overlay) -> None:
    for pod in overlay.pods():
        names = {*environment(overlay, pod), *(each["name"] for each in container(pod)["env"])}

        assert {name.removesuffix("_FILE").lower() for name in names - OF_UVICORN} <= set(
            Settings.model_fields
        )


def files(overlay: Overlay, pod: Any) -> dict[str, str]:
    """Those of secrets, and what is in them."""
    secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    found: dict[str, str] = {}
    for mount in container(pod)["volumeMounts"]:
        if secret := secrets.get(mount["name"]):
            contents = overlay.secret(secret["secretName"])
            keys = {item["key"] for item in secret["items"]} if "items" in secret else contents.keys()
            found |= {f"{mount['mountPath']}/{key}": contents[key] for key in keys}
    return found


def test_the_settings_are_usable_and_their_files_are_mounted(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in overlay.pods():
        mounted = files(overlay, pod)
        with monkeypatch.context() as patch:
            for name, value in environment(overlay, pod).items():
                file = tmp_path / name
                if name.endswith("_FILE"):
                    file.write_text(mounted[value], encoding="utf-8")
                patch.setenv(name, str(file) if name.endswith("_FILE") else value)

            settings = Settings(_env_file=None)

        if "RUN_MIGRATIONS" in environment(overlay, pod):  # all but the Job, which has an option for it
            assert settings.environment == overlay.name
            assert not settings.run_migrations
        certificates = re.findall(r"sslrootcert=(\S+)", unquote(settings.migration_url))
        assert set(certificates) <= mounted.keys()


def test_ports_and_probes_are_those_of_the_service(overlay: Overlay, api: Api) -> None:
    auth, service = container(overlay.pods()[0]), overlay.one("Service")
    (port,) = auth["ports"]

    assert re.findall(r"(?m)^EXPOSE (\d+)", DOCKERFILE) == [str(port["containerPort"])]
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [port["name"]]
    labels = overlay.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    paths = {kind: auth[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": LIVE, "liveness": LIVE, "readiness": HEALTH}
    for path in paths.values():
        assert api.http.get(path).status_code == 200


def test_the_end_of_a_pod_leaves_time_for_all_that_comes_before_it(overlay: Overlay) -> None:
    pod = overlay.pods()[0]
    auth, drain = container(pod), int(environment(overlay, pod)["DRAIN_SECONDS"])
    before = auth["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] >= before + drain + GRACE_SECONDS + 5
    if overlay.name == "production":
        assert auth["readinessProbe"]["periodSeconds"] * auth["readinessProbe"]["failureThreshold"] < drain


def test_pods_may_do_nothing_that_they_need_not(overlay: Overlay) -> None:
    (uid,) = re.findall(r"useradd .*--uid (\d+)", DOCKERFILE)
    for pod in overlay.pods():
        of_pod, of_container = pod["securityContext"], container(pod)["securityContext"]

        assert (of_pod["runAsNonRoot"], of_pod["runAsUser"]) == (True, int(uid))
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert of_container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        assert set(container(pod)["resources"]) == {"requests", "limits"}


def test_the_job_migrates_with_the_image_of_the_release(overlay: Overlay) -> None:
    server, migration = map(container, overlay.pods())

    assert migration["command"] == ["python", "-m", "app.serve", MIGRATE_ONLY]
    assert migration["image"] == server["image"]
    assert "MIGRATION_DATABASE_URL_FILE" in environment(overlay, overlay.pods()[1])


def test_a_changed_setting_rolls_out_with_a_plain_apply(overlay: Overlay, tmp_path: Path) -> None:
    """Which fails where it would change a Job."""
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    for file in (folder / "base", folder / overlay.name):
        settings = file / "kustomization.yaml"
        before = settings.read_text(encoding="utf-8")
        after = re.sub("(DRAIN_SECONDS=|MAIL_FROM=|database-url=.*@)", r"\g<1>9", before)
        settings.write_text(after, encoding="utf-8")
        assert after != before

    changed = Overlay(overlay.name, folder)

    assert changed.one("Job", "auth-migration") == overlay.one("Job", "auth-migration")
    assert changed.one("Deployment") != overlay.one("Deployment")


def test_the_network_lets_everybody_reach_whom_they_need(overlay: Overlay) -> None:
    policy = overlay.one("NetworkPolicy")["spec"]
    for kind, name in (("Deployment", "auth"), ("Job", "auth-migration")):
        labels = overlay.one(kind, name)["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == ["http"]
    ports = {each["port"] for each in chain.from_iterable(rule["ports"] for rule in policy["egress"])}
    assert {53, 5432} <= ports


def test_the_alerts_are_those_of_prometheus(production: Overlay) -> None:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]

    assert yaml.safe_load(RULE.read_text(encoding="utf-8"))["spec"]["groups"] == groups, (
        "make prometheus-rule"
    )
    assert production.one("PrometheusRule")["spec"]["groups"] == groups
    assert {'job="auth"'} <= set(re.findall(r'job="\w+"', str(groups)))
    monitor, service = production.one("ServiceMonitor")["spec"], production.one("Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["key"] in production.secret(credentials["name"])


def test_the_database_has_connections_for_all_replicas(production: Overlay, api: Api) -> None:
    workers = int(environment(production, production.pods()[0])["WEB_CONCURRENCY"])
    replicas = production.one("HorizontalPodAutoscaler")["spec"]["maxReplicas"] + 1  # one more in a rollout
    allowed = production.one("Cluster", "auth-db")["spec"]["postgresql"]["parameters"]["max_connections"]

    assert replicas * workers * api.metric("app_database_pool_size") + 20 <= int(allowed)


def test_the_database_has_the_roles_of_the_manual(production: Overlay) -> None:
    manual = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = manual[manual.index("## Database roles") : manual.index("Then `DATABASE_URL=")]
    blocks = "".join(re.findall(r"(?s)```sql\n(.*?)```", section))
    expected = [" ".join(each.split()) for each in blocks.split(";") if each.strip()]
    by_the_operator = ("CREATE ROLE kanban_owner", "CREATE DATABASE")
    cluster = production.one("Cluster", "auth-db")["spec"]

    assert cluster["bootstrap"]["initdb"]["postInitApplicationSQL"] == [
        re.sub(r" PASSWORD '.*'", "", each) for each in expected if not each.startswith(by_the_operator)
    ]
    assert [role["name"] for role in cluster["managed"]["roles"]] == ["kanban_app"]
    assert cluster["postgresql"]["synchronous"]["number"] < cluster["instances"] - 1


def names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from chain.from_iterable(map(names, value))
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield key
            yield from () if key in FREE and isinstance(inside, dict) else names(inside)


def test_custom_resources_have_fields_that_there_are(production: Overlay) -> None:
    for each in production.all:
        if each["kind"] in FIELDS:
            assert set(names(each["spec"])) <= set(FIELDS[each["kind"]].split()), each["kind"]
