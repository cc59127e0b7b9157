"""KubeRay's schemas as JSON schemas that refuse unknown fields, as the API server does."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Beside the checkout, because they are too large for it.
CRDS = ROOT.parent / "shared" / "kuberay_crds"


def violations(manifest: dict[str, Any]) -> list[str]:
    """List the violations of the schema of the manifest's kind, each with its place."""
    validator = jsonschema.Draft202012Validator(_schema(manifest["kind"], manifest["apiVersion"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def violations_of_rules(ingress: list[Any], egress: list[Any]) -> list[str]:
    """The same for the rules of a network policy, which KubeRay's schema takes from Kubernetes."""
    spec = _schema("RayCluster", "ray.io/v1")["properties"]["spec"]["properties"]
    head = jsonschema.Draft202012Validator(spec["networkPolicy"]["properties"]["head"])
    found = head.iter_errors({"ingressRules": ingress, "egressRules": egress})
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def _schema(kind: str, api_version: str) -> dict[str, Any]:
    if not CRDS.is_dir():
        pytest.skip(f"KubeRay's schemas are not beside the checkout: no folder {CRDS}")
    group, _, version = api_version.partition("/")
    definition = yaml.load((CRDS / f"{group}_{kind.lower()}s.yaml").read_text(), yaml.CSafeLoader)
    assert definition["spec"]["names"]["kind"] == kind
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    assert found["served"]
    strict: dict[str, Any] = _strict(found["schema"]["openAPIV3Schema"])
    # KubeRay's definition leaves metadata open, because Kubernetes defines it for every object.
    strict["properties"]["metadata"] = _METADATA
    return strict


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("name", "generateName", "namespace")},
        **dict.fromkeys(("labels", "annotations"), _TEXTS),
    },
    "additionalProperties": False,
}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: {key: _strict(each) for key, each in value.items()}
        if name == "properties"
        else _strict(value)
        for name, value in schema.items()
    }
    if found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    open_ended = found.get("x-kubernetes-preserve-unknown-fields", False)
    if found.get("type") == "object" and "properties" in found and not open_ended:
        found.setdefault("additionalProperties", False)
    if found.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found
