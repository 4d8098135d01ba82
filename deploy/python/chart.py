"""Judges the chart: `chart.py CHART [PACKAGE_INTO]`.

Lints and renders it with Helm's engine for several values, holds every object against the schema of Kubernetes, and holds that values
which mean nothing are refused. Prints one line per case; with PACKAGE_INTO, packages it there. Exit status 1 where something is wrong.
"""

import sys
import warnings
from pathlib import Path

import helm_python
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

KUBERNETES = "1.33"
TLS = {"cert": "CERT", "key": "KEY", "clientCa": "CA"}
# Values, and the kinds that they add to those that are always there.
GOOD = {
    "defaults": ({}, set()),
    "tls": ({"api": {"enabled": True, "tls": TLS}}, {"Secret"}),
    "secret of others": ({"api": {"enabled": True, "tls": {"existingSecret": "mine"}}}, set()),
    "prometheus": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True, "labels": {"release": "p"}}}},
        {"ServiceMonitor", "PrometheusRule"},
    ),
    "digest, no state": ({"image": {"digest": "sha256:" + "a" * 64}, "state": {"hostPath": ""}}, set()),
}
ALWAYS = {"DaemonSet", "ConfigMap", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Service"}
BAD = {
    "a key that is none": {"imagee": {}},
    "a mode that is none": {"config": {"interface": "eth0", "mode": "block"}},
    "a port out of range": {"metrics": {"port": 70000}},
    "TLS without a key": {"api": {"enabled": True, "tls": {"cert": "CERT"}}},
}


def objects(manifests):
    for path, text in sorted(manifests.items()):
        if not path.endswith(".txt"):
            yield from (o for o in yaml.safe_load_all(text) if o)


def check(chart_dir):
    wrong = []
    report = helm_python.chart.lint(chart_dir, strict=True)
    wrong += [f"lint: {m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
    wrong += [f"lint: {e}" for e in report["errors"]]
    with helm_python.chart.Chart.load(chart_dir) as chart:
        for name, (values, more) in GOOD.items():
            chart.validate_schema(chart.merge_values(values))
            rendered = list(objects(chart.render(values, name="weir", namespace="security")))
            kinds = {o["kind"] for o in rendered}
            if kinds != ALWAYS | more:
                wrong.append(f"{name}: rendered {sorted(kinds)}, expected {sorted(ALWAYS | more)}")
            judged = 0
            for o in rendered:
                if o["apiVersion"].startswith("monitoring.coreos.com/"):
                    continue
                try:
                    kubernetes_validate.validate(o, KUBERNETES, strict=True)
                    judged += 1
                except kubernetes_validate.ValidationError as e:
                    wrong.append(f"{name}: {o['kind']}: {'/'.join(map(str, e.path))}: {e.message}")
            wrong += [f"{name}: {w}" for w in by_hand(rendered, values)]
            print(f"{name}: {len(rendered)} objects, {judged} held against the schema of Kubernetes {KUBERNETES}")
        for name, values in BAD.items():
            try:
                chart.validate_schema(chart.merge_values(values))
                chart.render(values, name="weir", namespace="security")
                wrong.append(f"{name} was not refused")
            except helm_python.HelmError as e:
                print(f"{name}: refused: {str(e).strip().splitlines()[-1].strip()}")
    return wrong


def by_hand(rendered, values):
    """What no schema says."""
    by_kind = {o["kind"]: o for o in rendered}
    pod = by_kind["DaemonSet"]["spec"]["template"]["spec"]
    weir = pod["containers"][0]
    if weir["securityContext"]["capabilities"] != {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]}:
        yield "the agent has other capabilities than those that it needs"
    if weir["securityContext"].get("privileged") or not pod["hostNetwork"]:
        yield "the agent is privileged, or not on the node's network"
    names = {v["name"] for v in pod["volumes"]}
    for container in pod["initContainers"] + pod["containers"]:
        if missing := {m["name"] for m in container["volumeMounts"]} - names:
            yield f"{container['name']} mounts {missing}, which is no volume"
    config = yaml.safe_load(by_kind["ConfigMap"]["data"]["weir.yaml"])
    if config["interface"] != "eth0" or not config["metrics"]["listen"].endswith(":9470"):
        yield f"weir.yaml is {config}"
    if ("api" in config) != values.get("api", {}).get("enabled", False):
        yield "weir.yaml and the values do not agree about the API"
    if rule := by_kind.get("PrometheusRule"):
        groups = yaml.safe_load((Path(__file__).parents[1] / "prometheus/alerts.yml").read_text())["groups"]
        if rule["spec"]["groups"] != groups:
            yield "the rules are others than those of deploy/prometheus"


def weir_yaml(chart_dir, into):
    """The configurations of all cases, for the agent to judge."""
    with helm_python.chart.Chart.load(chart_dir) as chart:
        for name, (values, _) in GOOD.items():
            rendered = objects(chart.render(values, name="weir", namespace="security"))
            text = next(o for o in rendered if o["kind"] == "ConfigMap")["data"]["weir.yaml"]
            Path(into, f"{name.replace(' ', '-').replace(',', '')}.yaml").write_text(text)


def main():
    chart_dir = sys.argv[1]
    if sys.argv[2:3] == ["--configs"]:
        return weir_yaml(chart_dir, sys.argv[3])
    wrong = check(chart_dir)
    for line in wrong:
        print(f"WRONG {line}")
    if not wrong and len(sys.argv) > 2:
        print(helm_python.chart.package(chart_dir, destination=sys.argv[2]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
