"""The files by which clusters are made: what Ray, Google and Kubernetes accept, and the versions of the tests."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import googleapiclient
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
LAUNCHER = ["cluster.yaml", "cluster/gcp.yaml"]
KUBERNETES = "1.34"


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def pins() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "cluster/constraints.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if line)


@pytest.mark.parametrize("name", LAUNCHER)
def test_ray_accepts_the_file_and_adds_no_commands_of_its_own(name: str) -> None:
    config = prepare_config(read(name))
    validate_config(config)
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert config[key] == read(name)["setup_commands"]  # Ray joins them
    assert config["initialization_commands"] == []


@pytest.mark.parametrize("name", LAUNCHER)
def test_a_head_without_gpu_and_gpu_workers_that_come_when_asked_for(name: str) -> None:
    types = read(name)["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 1, "GPU": 0}
    workers = [types["gpu_spot"], types["gpu_on_demand"]]
    assert [worker["min_workers"] for worker in workers] == [0, 0]
    assert [worker["resources"]["GPU"] for worker in workers] == [1, 1]
    assert workers[0]["priority"] > workers[1].get("priority", 0)
    spot, on_demand = (yaml.safe_dump(worker["node_config"]).lower() for worker in workers)
    assert "spot" in spot
    assert "spot" not in on_demand


@pytest.mark.parametrize("name", LAUNCHER)
def test_only_the_heads_loopback_interface_takes_jobs(name: str) -> None:
    starts = [command for command in read(name)["head_start_ray_commands"] if "ray start" in command]
    assert len(starts) == 1
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "--ray-client-server-port" not in starts[0]


def test_both_clouds_run_the_same_commands() -> None:
    aws, gcp = map(read, LAUNCHER)
    keys = [key for key in aws if key.endswith("commands")]
    assert json.dumps([aws[key] for key in keys]).replace("aws us-west-2", "gcp PROJECT_ID").replace(
        "install.sh aws", "install.sh gcp"
    ) == json.dumps([gcp[key] for key in keys])
    for key in ("max_workers", "idle_timeout_minutes", "file_mounts", "rsync_exclude"):
        assert aws[key] == gcp[key]


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_mounts_hold_what_rayfed_is_installed_from(name: str) -> None:
    mounts = read(name)["file_mounts"]
    assert all(target == f"~/rayfed/{source}" and (ROOT / source).exists() for target, source in mounts.items())
    commands = " ".join(each for key, some in read(name).items() if key.endswith("commands") for each in some)
    scripts = re.findall(r"~/rayfed/(\S+\.(?:sh|py))", commands)
    assert len(scripts) >= 3
    assert all((ROOT / script).is_file() for script in scripts)
    assert "cluster" in mounts.values()


def unknown(value: Any, schema: dict[str, Any], schemas: dict[str, Any], path: str) -> list[str]:
    """What Google's description of its API does not have: fields, and values of another kind."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = int if schema.get("format") == "int64" else kinds[schema["type"]]  # JSON's numbers end at 2^53
    if not isinstance(value, kind):
        return [f"{path}: not of type {schema['type']}"]
    if isinstance(value, list):
        found = [unknown(each, schema["items"], schemas, f"{path}[]") for each in value]
    elif isinstance(value, dict):
        fields = schema["properties"]
        found = [
            unknown(each, fields[key], schemas, f"{path}.{key}") if key in fields else [f"{path}.{key}: unknown"]
            for key, each in value.items()
        ]
    else:
        found = [[f"{path}: {value}"] if value not in schema.get("enum", [value]) else []]
    return [each for some in found for each in some]


def compute_engine() -> dict[str, Any]:
    document = Path(googleapiclient.__file__).parent / "discovery_cache/documents/compute.v1.json"
    schemas: dict[str, Any] = json.loads(document.read_text())["schemas"]
    return schemas


def test_the_nodes_of_google_cloud_are_what_its_api_describes() -> None:
    schemas = compute_engine()
    for name, node_type in read("cluster/gcp.yaml")["available_node_types"].items():
        assert unknown(node_type["node_config"], {"$ref": "Instance"}, schemas, name) == []


def test_a_misspelt_key_of_a_google_node_is_found() -> None:
    node = read("cluster/gcp.yaml")["available_node_types"]["gpu_spot"]["node_config"]
    node["scheduling"] |= {"provisioningModell": "SPOT", "onHostMaintenance": "NEVER"}
    found = unknown(node, {"$ref": "Instance"}, compute_engine(), "n")
    assert sorted(found) == ["n.scheduling.onHostMaintenance: NEVER", "n.scheduling.provisioningModell: unknown"]


@pytest.mark.parametrize(("name", "pin"), pins().items())
def test_the_clusters_have_the_versions_that_the_tests_have(name: str, pin: str) -> None:
    assert version(name).partition("+")[0] == pin


def test_no_file_holds_a_secret_or_a_password() -> None:
    files = [ROOT / "cluster.yaml", ROOT / "Dockerfile", *(ROOT / "cluster").rglob("*.*")]
    texts = {file: file.read_text() for file in files if file.is_file() and file.suffix != ".pyc"}
    assert len(texts) > 8
    for file, text in texts.items():
        assert not re.search(r"://[^\s/:@]+:[^\s/@]+@", text), file  # a URL with a password
        assert not re.search(r"(?i)(password|token|secret_key)\s*[:=]\s*['\"]?[A-Za-z0-9+/_-]{12,}", text), file


# Kubernetes


CLUSTER_FIELDS = {
    "spec": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions",
        "headGroupSpec", "workerGroupSpecs",
    },
    "authOptions": {"mode", "secretName"},
    "autoscalerOptions": {"version", "idleTimeoutSeconds"},
    "headGroupSpec": {"serviceType", "rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}  # fmt: skip
"""The fields of KubeRay's API reference (docs.ray.io, KubeRay 1.6) that are used here: no package has its schemas."""
JOB_FIELDS = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}


def cluster_specs() -> list[dict[str, Any]]:
    cluster, job = read("cluster/kuberay-cluster.yaml"), read("cluster/kuberay-job.yaml")
    assert [(each["apiVersion"], each["kind"]) for each in (cluster, job)] == [
        ("ray.io/v1", "RayCluster"), ("ray.io/v1", "RayJob"),
    ]  # fmt: skip
    assert job["spec"].keys() == JOB_FIELDS
    return [cluster["spec"], job["spec"]["rayClusterSpec"]]


def test_the_job_has_the_cluster_of_the_other_file() -> None:
    cluster, jobs_own = cluster_specs()
    assert cluster == jobs_own


def test_the_rayclusters_fields_are_kuberays() -> None:
    spec = cluster_specs()[0]
    assert spec.keys() == CLUSTER_FIELDS["spec"]
    for key in ("authOptions", "autoscalerOptions", "headGroupSpec"):
        assert spec[key].keys() == CLUSTER_FIELDS[key]
    for group in spec["workerGroupSpecs"]:
        assert group.keys() == CLUSTER_FIELDS["workerGroupSpecs"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_rays_autoscaler_reads_from_it_a_cpu_head_and_gpu_workers() -> None:
    cluster = read("cluster/kuberay-cluster.yaml")
    cluster["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    found = {name: (t["min_workers"], t["max_workers"], t["resources"]) for name, t in types.items()}
    assert found == {
        "headgroup": (0, 0, {"CPU": 1, "GPU": 0, "memory": 8 * 2**30}),
        "gpu-spot": (0, 8, {"CPU": 4, "GPU": 1, "memory": 12 * 2**30}),
        "gpu-on-demand": (0, 2, {"CPU": 4, "GPU": 1, "memory": 12 * 2**30}),
    }
    assert config["idle_timeout_minutes"] == read("cluster.yaml")["idle_timeout_minutes"]


def pods() -> list[dict[str, Any]]:
    """The pods of a cluster, as manifests of their own."""
    spec = cluster_specs()[0]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]} for group in groups]


def services() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "cluster/kuberay-services.yaml").read_text()))


@pytest.mark.parametrize(
    "manifest", [*services(), *pods()], ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_kubernetes_own_kinds_have_its_fields(manifest: dict[str, Any]) -> None:
    assert fault(manifest) == ""


def test_a_misspelt_field_of_a_pod_is_found() -> None:
    pod = pods()[1]
    pod["spec"]["tolerationss"] = pod["spec"].pop("tolerations")
    assert "tolerationss" in fault(pod)


def fault(manifest: dict[str, Any]) -> str:
    """What Kubernetes' schema has against a manifest; empty if it has nothing."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return ""


def test_what_the_pods_refer_to_is_there() -> None:
    by_kind: dict[str, set[str]] = {}
    for manifest in services():
        by_kind.setdefault(manifest["kind"], set()).add(manifest["metadata"]["name"])
    text = "".join((ROOT / f"cluster/kuberay-{name}.yaml").read_text() for name in ("services", "cluster", "job"))
    assert set(re.findall(r"serviceAccountName: (\w+)", text)) <= by_kind["ServiceAccount"]
    assert set(re.findall(r"configMapRef: {name: (\w+)}", text)) <= by_kind["ConfigMap"]
    assert set(re.findall(r"@(\w+)/", text)) == {"postgres"} <= by_kind["Service"]
    assert set(re.findall(r"http://(\w+):", text)) == {"mlflow"} <= by_kind["Service"]
    assert set(re.findall(r"key: (\w+)}", text)) == {"postgres_password", "mlflow_password", "flask_secret_key"}
    assert set(re.findall(r"image: (\S*rayfed\S*)", text)) == {f"REGISTRY/rayfed:{version('rayfed-gan')}"}


def test_kubernetes_and_the_launcher_tell_nodes_the_same() -> None:
    settings = (ROOT / "cluster/node/settings.py").read_text()
    told = set(re.findall(r'"((?:RAYFED|MLFLOW)_(?!ARTIFACTS|AUTH|FLASK)[A-Z_]+)"', settings))
    config_map = next(m for m in services() if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "rayfed")["data"]
    head = {each["name"] for each in cluster_specs()[0]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}
    assert told == {name for name in {*config_map, *head} if name not in {"MLFLOW_ARTIFACTS", "PGPASSWORD"}}
