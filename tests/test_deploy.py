"""What operators mount agrees with what the service exports, with its runbook and with itself."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.devdb import PROJECT
from tests.support import Api

PROMETHEUS = PROJECT / "deploy" / "prometheus"
GRAFANA = PROJECT / "deploy" / "grafana"
RUNBOOK = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


ALERTS = {
    rule["alert"]: rule for group in read_yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]
}
CASE_FILES = sorted(PROMETHEUS.glob("*.test.yml"))
CASES = [case for file in CASE_FILES for test in read_yaml(file)["tests"] for case in test["alert_rule_test"]]
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
COMPOSE = read_yaml(PROJECT / "docker-compose.yml")

OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"job", "instance", "alertname", "alertstate"}}
OF_THE_SCRAPE = {"job", "instance"}
"""Labels that every series gets."""

_TEXT = r'"(?:[^"\\]|\\.)*"'
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_SELECTOR = re.compile(rf"([a-zA-Z_:][\w:]*)\s*\{{((?:[^{{}}\"]|{_TEXT})*)\}}")
_MATCHER = re.compile(rf"\s*(\w+)\s*(=~|!~|!=|=)\s*({_TEXT})\s*,?")
_BARE = re.compile(r"(?<![\w.:$])(?!(?:and|or|unless|offset|bool|inf|nan)\b)[a-zA-Z_:][\w:]*\b(?!\s*\()")


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str

    def accepts(self, labels: dict[str, str]) -> bool:
        value = labels.get(self.label, "")
        found = re.fullmatch(self.value, value) if "~" in self.operator else value == self.value
        return bool(found) != self.operator.startswith("!")

    def alternatives(self) -> list["Matcher"]:
        """Each of `a|b|c` by itself."""
        if self.operator != "=~" or not re.fullmatch(r"\w+(\|\w+)+", self.value):
            return [self]
        return [Matcher(self.label, "=", value) for value in self.value.split("|")]


Selector = tuple[str, list[Matcher]]


def selectors(promql: str) -> Iterator[Selector]:
    """Every metric that an expression names, with or without braces, and how it is narrowed down."""
    rest = _GROUPING.sub("", promql)
    for name, inside in _SELECTOR.findall(rest):
        assert _MATCHER.sub("", inside).strip() == "", promql
        matchers = [Matcher(label, how, json.loads(value)) for label, how, value in _MATCHER.findall(inside)]
        yield name, matchers
    rest = re.sub(r"\[[^\]]*\]", "", _SELECTOR.sub("", rest))
    for name in _BARE.findall(rest):
        yield name, []


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and PromQL."""
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    for block in re.findall(r"(?s)```promql\n(.*?)```", RUNBOOK):
        for line in block.splitlines():
            yield "runbook", line
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match, variable
            assert variable["query"]["query"] == variable["definition"]
            yield variable["name"], f"sum by ({match[2]}) ({match[1]})"


@pytest.fixture(scope="module")
def exported(api: Api) -> dict[str, list[dict[str, str]]]:
    """The labels of every series, by the name that PromQL knows it by."""
    series: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(api.http.get("/metrics").text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(sample.labels)
    return series


@pytest.fixture(scope="module")
def metrics(api: Api) -> dict[str, set[str]]:
    """A metric's name, a histogram's once for all its series, to its labels; of ours, not `process_…`."""
    return {
        family.name + "_total" * (family.type == "counter"): {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in text_string_to_metric_families(api.http.get("/metrics").text)
        if not family.name.startswith("process_")
    }


def test_no_metric_of_a_query_is_overlooked() -> None:
    promql = (
        'sum by (route, le) (rate(a_bucket{route!~"/x{1}|/y", job="auth",}[5m]))'
        ' / on (job) group_left () b:c > 0.5 and d_total{} offset 1d or e unless max(f{g="\\"}"}) == bool 1e3'
    )

    assert sorted(selectors(promql)) == [
        ("a_bucket", [Matcher("route", "!~", "/x{1}|/y"), Matcher("job", "=", "auth")]),
        ("b:c", []),
        ("d_total", []),
        ("e", []),
        ("f", [Matcher("g", "=", '"}')]),
    ]


def test_every_query_selects_what_the_service_exports(exported: dict[str, list[dict[str, str]]]) -> None:
    for where, promql in queries():
        found = list(selectors(promql))
        assert found, where
        for name, matchers in found:
            narrowed = [matcher for matcher in matchers if matcher.label not in OF_THE_SCRAPE]
            if name in OF_PROMETHEUS:
                assert {matcher.label for matcher in matchers} <= OF_PROMETHEUS[name], where
                continue
            assert name in exported, f"{where}: {name}"
            labels = {label for series in exported[name] for label in series}
            assert {matcher.label for matcher in narrowed} <= labels, f"{where}: {name}"
            for alternative in (each for matcher in narrowed for each in matcher.alternatives()):
                assert any(map(alternative.accepts, exported[name])), f"{where}: {name}{alternative}"
            assert any(all(each.accepts(series) for each in narrowed) for series in exported[name]), (
                f"{where}: {name} with all of {narrowed}"
            )


def test_every_query_is_of_one_job() -> None:
    """`app_…` and `http_…` are names that others may use as well."""
    for where, promql in queries():
        expected = Matcher("job", "=", "auth" if where in {*ALERTS, "runbook"} else "$job")
        for name, matchers in selectors(promql):
            assert where == "job" or expected in matchers, f"{where}: {name}"


def test_every_query_groups_by_labels_that_are_there(exported: dict[str, list[dict[str, str]]]) -> None:
    for where, promql in queries():
        known = OF_THE_SCRAPE | {
            label for name, _ in selectors(promql) for series in exported.get(name, []) for label in series
        }
        grouped = {
            label.strip() for labels in _GROUPING.findall(promql) for label in labels.split(",") if label
        }
        assert grouped <= known, where


def test_the_dashboard_shows_every_metric(metrics: dict[str, set[str]]) -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for panel in PANELS
        for target in panel["targets"]
        for name, _ in selectors(target["expr"])
    }

    assert shown - set(OF_PROMETHEUS) == set(metrics)


def test_the_runbook_names_every_metric_and_its_labels(metrics: dict[str, set[str]]) -> None:
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \| ([^|]*)\|", RUNBOOK)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == metrics


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert len(ALERTS) > 5
    for fires in (True, False):
        assert {case["alertname"] for case in CASES if bool(case["exp_alerts"]) == fires} == set(ALERTS)


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        text = (PROJECT / document).read_text(encoding="utf-8")
        assert anchor in {anchor_of(heading) for heading in re.findall(r"(?m)^#+ (.+)$", text)}, name


def anchor_of(heading: str) -> str:
    """As GitHub and GitLab make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_runbook_has_no_alert_too_many() -> None:
    assert re.findall(r"(?m)^### (.+)$", RUNBOOK) == list(ALERTS)


needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed; it comes with Prometheus"
)


def promtool(*arguments: str) -> None:
    result = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, check=False, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@needs_promtool
@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", *(file.name for file in CASE_FILES)),
    ],
)
def test_promtool_accepts_the_configuration_the_rules_and_their_cases(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


@needs_promtool
@pytest.mark.process
def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"query:{number}",
            "expr": promql.replace("$__rate_interval", "1m").replace("$__range", "1h"),
            "labels": {"where": re.sub(r"\W", "_", where)},
        }
        for number, (where, promql) in enumerate(queries())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))

    promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_the_dashboard_can_be_imported_anywhere() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert len(DASHBOARD["panels"]) - len(PANELS) >= 8
    assert DASHBOARD["id"] is None
    assert all(DASHBOARD[key] for key in ("uid", "title", "schemaVersion"))
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for panel in PANELS:
        assert panel["targets"], panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    used = set(re.findall(r"\$\{?(?!__)(\w+)", " ".join(promql for _, promql in queries() if "$" in promql)))
    assert used <= set(variables)


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def mounts(service: str) -> dict[str, str]:
    """Where the container finds what is ours to what it is here."""
    parts = [volume.split(":") for volume in COMPOSE["services"][service]["volumes"]]
    ours = [part for part in parts if part[0].startswith("./")]
    assert all(part[2] == "ro" for part in ours)
    return {target: source for source, target, _ in ours}


def test_prometheus_finds_the_service_and_its_rules() -> None:
    config = read_yaml(PROMETHEUS / "prometheus.yml")
    (job,) = config["scrape_configs"]

    assert mounts("prometheus") == {"/etc/prometheus": "./deploy/prometheus"}
    assert [(PROMETHEUS / name).is_file() for name in config["rule_files"]] == [True]
    assert job["job_name"] == "auth"
    assert job["static_configs"] == [{"targets": ["auth:8000"]}]
    assert "auth" in COMPOSE["services"]
    assert COMPOSE["services"]["auth"]["ports"][0]["target"] == 8000


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    inside = mounts("grafana")
    (provider,) = read_yaml(GRAFANA / "provisioning" / "dashboards" / "auth.yml")["providers"]
    (source,) = read_yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]

    assert all((PROJECT / path).exists() for path in inside.values())
    for kind in ("dashboards", "datasources"):
        assert inside[f"/etc/grafana/provisioning/{kind}"] == f"./deploy/grafana/provisioning/{kind}"
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert inside[home] == "./deploy/grafana/dashboard.json"
    assert provider["options"]["path"] == str(PurePosixPath(home).parent)
    (port,) = COMPOSE["services"]["prometheus"]["ports"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://prometheus:{port['target']}")


def test_what_observes_or_catches_mails_is_off_unless_asked_for_and_not_public() -> None:
    profiles = {"grafana": "observability", "prometheus": "observability", "mailpit": "development"}
    for service, profile in profiles.items():
        assert COMPOSE["services"][service]["profiles"] == [profile]
        assert {port["host_ip"] for port in COMPOSE["services"][service]["ports"]} == {
            "${AUTH_ADDRESS:-127.0.0.1}"
        }
