"""Custom resources against the schemas of their definitions, as strictly as an API server with strict field validation.

usage: custom_resources.py FOLDER < DOCUMENTS

FOLDER holds CustomResourceDefinitions in YAML, DOCUMENTS is a JSON list. One line for each document: `ok`, `none` (no
definition of that kind in the folder) or `bad` with what is wrong. Rules in CEL are not evaluated.
"""

import copy
import json
import pathlib
import sys

import jsonschema
import yaml


def strict(schema):
    """A structural schema as a JSON Schema that refuses what it does not name."""
    schema = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    elif schema.get("nullable") and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    # Only here: what stands below allOf, anyOf, oneOf and not says something about members that are named here.
    if isinstance(schema.get("items"), dict):
        schema["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = strict(schema["additionalProperties"])
    if "properties" in schema:
        schema["properties"] = {name: strict(member) for name, member in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


def definitions(folder):
    """Kind and apiVersion to validator."""
    found = {}
    for file in sorted(pathlib.Path(folder).iterdir()):
        if file.suffix not in (".yaml", ".yml", ".json"):
            continue
        for document in yaml.safe_load_all(file.read_text()):
            if not document or document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
                # The API server checks these itself.
                schema.setdefault("properties", {}).update(
                    apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"}
                )
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = jsonschema.Draft202012Validator(strict(schema))
    return found


def main():
    known = definitions(sys.argv[1])
    if not known:
        sys.exit(f"error: no CustomResourceDefinition in {sys.argv[1]}")
    for document in json.load(sys.stdin):
        key = (document["apiVersion"], document["kind"])
        name = f"{document['kind']} {document['metadata']['name']}"
        validator = known.get(key)
        if validator is None:
            print("none", f"{name} ({key[0]})")
            continue
        wrong = [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
            for error in validator.iter_errors(document)
        ]
        # A check that accepts everything would look the same: a field of no version must be refused.
        stranger = copy.deepcopy(document)
        stranger["spec"]["fieldOfNoVersion"] = 1
        if not wrong and validator.is_valid(stranger):
            wrong = ["a field that no version has is not refused: is the schema complete?"]
        print("bad" if wrong else "ok", name, *wrong[:1], sep="\t" if wrong else " ")


main()
