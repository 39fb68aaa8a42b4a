"""Custom resources against the schemas of their definitions, as strictly as an API server with strict field validation.

usage: custom_resources.py FOLDER < DOCUMENTS

FOLDER holds CustomResourceDefinitions in YAML, DOCUMENTS is a JSON list. One line for each document: `ok`, `none` (no
definition of that kind in the folder) or `bad` with what is wrong. Rules in CEL are evaluated as far as the library goes and
as one version of a resource can be judged; `ok` says how many were.
"""

import copy
import json
import pathlib
import sys

import cel
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


def with_defaults(schema, value):
    """The value as the API server stores it: rules are about that."""
    if isinstance(value, dict):
        members = schema.get("properties") or {}
        rest = schema.get("additionalProperties")
        value = {
            name: with_defaults(members.get(name) or (rest if isinstance(rest, dict) else {}), member)
            for name, member in value.items()
        }
        for name, member in members.items():
            if "default" in member and name not in value:
                value[name] = with_defaults(member, member["default"])
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        value = [with_defaults(schema["items"], item) for item in value]
    return value


def rules(schema, value, path=""):
    """Every rule that applies somewhere in the value: where, to what, the rule, its message."""
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations") or []:
        yield path, value, rule["rule"], rule.get("message") or rule["rule"]
    if isinstance(value, dict):
        members = schema.get("properties") or {}
        rest = schema.get("additionalProperties")
        for name, member in value.items():
            below = members.get(name) or (rest if isinstance(rest, dict) else {})
            yield from rules(below, member, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from rules(schema["items"], item, f"{path}.{number}")


def judge(schema, document):
    """What the rules find wrong, and how many were evaluated."""
    wrong, evaluated = [], 0
    for path, value, rule, message in rules(schema, with_defaults(schema, document)):
        context = cel.Context()
        context.add_variable("self", value)
        try:
            holds = cel.evaluate(rule, context)
        except Exception:  # A function that only Kubernetes has, or a rule about a change (oldSelf).
            continue
        evaluated += 1
        if not holds:
            wrong.append(f"{path}: {message[:200]}")
    return wrong, evaluated


def definitions(folder):
    """Kind and apiVersion to schema and validator."""
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
                found[key] = (schema, jsonschema.Draft202012Validator(strict(schema)))
    return found


def main():
    known = definitions(sys.argv[1])
    if not known:
        sys.exit(f"error: no CustomResourceDefinition in {sys.argv[1]}")
    for document in json.load(sys.stdin):
        key = (document["apiVersion"], document["kind"])
        name = f"{document['kind']} {document['metadata']['name']}"
        if key not in known:
            print("none", f"{name} ({key[0]})")
            continue
        schema, validator = known[key]
        wrong = [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
            for error in validator.iter_errors(document)
        ]
        evaluated = 0
        if not wrong:
            wrong, evaluated = judge(schema, document)
        # A check that accepts everything would look the same: a field of no version must be refused.
        stranger = copy.deepcopy(document)
        stranger["spec"]["fieldOfNoVersion"] = 1
        if not wrong and validator.is_valid(stranger):
            wrong = ["a field that no version has is not refused: is the schema complete?"]
        print(*(["bad", name, wrong[0]] if wrong else ["ok", name, f"{evaluated} rules"]), sep="\t")


main()
