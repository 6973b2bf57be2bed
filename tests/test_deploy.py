"""deploy/ is what Kubernetes and Compose accept, and its parts know of each other."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lectr_extproc.settings import Settings, load
from tests.commands import Capture, said
from tests.e2e.gateway import BUILDS
from tests.kustomize import ROOT, build, containers, of_kind

DEPLOY = ROOT / "deploy"
APP, GATEWAY = "kubernetes/app", "kubernetes/gateway"
FOLDERS = pytest.mark.parametrize("folder", [APP, GATEWAY])
MESHES = {
    "istio/app": ("istio-sidecar", "envoyfilter.yaml"),
    "istio/gateway": ("istio-gateway", "envoyfilter.yaml"),
    "envoy-gateway": ("envoy-gateway", "policies.yaml"),
}
KUBERNETES = [
    "1.33",
    "1.37",
]  # native sidecars are stable since the first, the last is the newest that there are schemas of
UNITS = {"Mi": 1024**2, "Gi": 1024**3, "m": 1024**2, "g": 1024**3}
OURS = ["lectr-render", "lectr", "envoy"]
LOCKED = {
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def with_tools(program: str, text: str, *arguments: str) -> str:
    """What a Python with .tools/deploy says of a document on its standard input."""
    command = [sys.executable, "-c", program, *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT / ".tools/deploy")}
    done = subprocess.run(command, input=text, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def in_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def settings_of(text: str) -> Settings:
    return load(text, read_reference=lambda _: "a-secret-of-16-chars")


def in_pod(folder: str) -> Settings:
    return settings_of(of_kind(build(folder), "ConfigMap")["data"]["lectr.yaml"])


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    return document


VALIDATE = """
import json, sys, kubernetes_validate
for resource in json.load(sys.stdin):
    for version in sys.argv[1:]:
        kubernetes_validate.validate(resource, version, strict=True)
"""
COMPOSE = """
import sys, compose_spec
compose_spec.PyCompose.from_yaml(sys.stdin.read()).validate()
"""


def test_kubernetes_accepts_what_kustomize_builds() -> None:
    made = [resource for folder in (APP, GATEWAY, *MESHES) for resource in build(folder)]
    its_own = [resource for resource in made if resource["apiVersion"].rpartition("/")[0] in {"", "apps", "policy"}]
    with_tools(VALIDATE, json.dumps(its_own), *KUBERNETES)


@pytest.mark.parametrize(("folder", "mesh", "file"), [(folder, *made) for folder, made in MESHES.items()])
def test_what_a_mesh_is_told_is_what_is_rendered(folder: str, mesh: str, file: str, capsys: Capture) -> None:
    settings = DEPLOY / folder / "lectr.yaml"
    assert said(capsys, "envoy", "render", "--for", mesh, "--config", settings) == (DEPLOY / folder / file).read_text()


def test_lectr_is_the_same_container_beside_every_proxy() -> None:
    """But for its group, which is that proxy's, and for Envoy's files, which a mesh has other ways to write."""
    proxy = of_kind(build("envoy-gateway"), "EnvoyProxy")["spec"]["provider"]["kubernetes"]["envoyDeployment"]
    lectrs = [(65532, proxy["initContainers"][0])]
    lectrs += [(1337, containers(folder)["lectr"]) for folder in ("istio/app", "istio/gateway")]
    for group, lectr in lectrs:
        assert lectr == containers(APP)["lectr"] | {"securityContext": LOCKED | {"runAsGroup": group}}
    pod = of_kind(build(APP), "Deployment")["spec"]["template"]["spec"]
    assert proxy["pod"]["volumes"] == pod["volumes"]


@pytest.mark.parametrize("folder", [folder for folder in MESHES if folder.startswith("istio")])
def test_an_envoy_filter_finds_the_pods_that_lectr_is_in(folder: str) -> None:
    pod = of_kind(build(folder), "Deployment")["spec"]["template"]
    wanted = of_kind(build(folder), "EnvoyFilter")["spec"]["workloadSelector"]["labels"]
    assert wanted.items() <= pod["metadata"]["labels"].items()
    assert "lectr-render" not in containers(folder)


def test_a_field_that_kubernetes_does_not_know_is_no_field() -> None:
    (deployment,) = [resource for resource in build(GATEWAY) if resource["kind"] == "Deployment"]
    wrong = deployment | {"spec": deployment["spec"] | {"initContainer": []}}
    with pytest.raises(AssertionError, match="initContainer"):
        with_tools(VALIDATE, json.dumps([wrong]), *KUBERNETES)


@FOLDERS
def test_envoy_starts_after_lectr_and_stops_before_it(folder: str) -> None:
    """Native sidecars start in their order, each when the one before is ready, and stop in the other."""
    pod = containers(folder)
    assert list(pod)[:3] == OURS
    assert [name for name, each in pod.items() if each.get("restartPolicy") == "Always"] == (
        ["lectr", "envoy"] if folder == APP else ["lectr"]
    )
    assert all("startupProbe" in pod[name] for name in ("lectr", "envoy"))
    # A sidecar's preStop runs when the pod begins to end, and not when its turn has come: the app would lose its Envoy.
    assert ("lifecycle" in pod["envoy"]) == (folder == GATEWAY)


@FOLDERS
def test_our_containers_have_no_privilege_and_a_limit_of_memory(folder: str) -> None:
    for name in OURS:
        container = containers(folder)[name]
        assert container["securityContext"] == LOCKED, name
        assert set(container["resources"]["limits"]) == {"memory"}, name
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name


@FOLDERS
def test_what_a_pod_mounts_is_there_and_what_it_writes_is_a_volume(folder: str) -> None:
    pod = of_kind(build(folder), "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {
        mount["mountPath"]: mount["name"]
        for each in containers(folder).values()
        for mount in each.get("volumeMounts", ())
    }
    assert set(mounted.values()) == set(volumes)
    settings = in_pod(folder)
    for written in (settings.grpc_listen.removeprefix("unix:"), settings.gateway.spool, settings.envoy_directory):
        (mount,) = [path for path in mounted if str(written).startswith(f"{path}/")]
        assert "emptyDir" in volumes[mounted[mount]]
    assert (
        volumes[mounted["/etc/lectr"]]["configMap"]["name"] == of_kind(build(folder), "ConfigMap")["metadata"]["name"]
    )


@FOLDERS
def test_the_settings_of_a_pod_fit_its_containers(folder: str) -> None:
    settings, pod = in_pod(folder), containers(folder)
    assert settings.gateway.max_heap_bytes < in_bytes(pod["envoy"]["resources"]["limits"]["memory"])
    assert f":{pod['lectr']['ports'][0]['containerPort']}" == settings.admin_listen[-5:]
    assert settings.gateway.admin == "127.0.0.1:9901"  # what probes and preStop ask
    assert_envoy_reads_what_is_rendered(settings, pod["lectr-render"]["args"], pod["envoy"]["args"])
    assert settings.gateway.listen == {APP: "127.0.0.1:10000", GATEWAY: "0.0.0.0:10000"}[folder]


def test_an_app_has_its_own_envoy_as_its_provider() -> None:
    settings = in_pod(APP)
    (urls,) = [container["env"] for container in containers(APP).values() if container["name"] == "app"]
    assert all(url["value"].startswith(f"http://{settings.gateway.listen}") for url in urls)


def test_compose_accepts_its_file() -> None:
    with_tools(COMPOSE, (DEPLOY / "compose/compose.yaml").read_text())


def test_the_settings_of_compose_fit_its_services() -> None:
    services = compose()["services"]
    text = (DEPLOY / "compose/settings/lectr.yaml").read_text()
    settings = settings_of(text)
    assert str(settings.ledger.url).removeprefix("env:") in services["lectr"]["environment"]
    assert settings.gateway.max_heap_bytes < in_bytes(services["envoy"]["mem_limit"])
    assert_envoy_reads_what_is_rendered(settings, services["render"]["command"], services["envoy"]["command"])
    for file in ("settings", "collector.yaml"):
        assert any(f"./{file}:" in volume for service in services.values() for volume in service.get("volumes", ()))
        assert (DEPLOY / "compose" / file).exists()


def assert_envoy_reads_what_is_rendered(settings: Settings, render: list[str], envoy: list[str]) -> None:
    profile, out = (Path(render[render.index(name) + 1]) for name in ("--profile", "--out"))
    assert str(profile) == settings.gateway.profile
    assert envoy[envoy.index("--config-path") + 1] == str(out / profile / "include.yaml")
    assert settings.envoy_directory == str(out / profile / "include")


def test_images_are_of_the_versions_that_are_tested() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {each["image"] for folder in (APP, GATEWAY) for each in containers(folder).values()}
    assert images == {f"lectr-extproc:{version}", f"envoyproxy/envoy:v{BUILDS[0].version}", "curlimages/curl:8.11.0"}
    assert compose()["services"]["envoy"]["image"] in images
