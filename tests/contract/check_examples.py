#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks openapi.yaml against itself: every schema is a valid JSON Schema, every example fits its
schema, every operation has an example of each body, and every problem kind it lists is one of
its status. Prints what is wrong; exits 1 if anything is.

Usage: check_examples.py [openapi.yaml]
"""
import pathlib
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
KIND_PREFIX = "urn:digstore:problem:"
METHODS = ("get", "head", "put", "post", "delete", "options", "patch")


class Document:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.safe_load(f)
        self.resolver = jsonschema.RefResolver("", self.doc)
        self.faults = []
        self.examples = 0

    def fault(self, where, text):
        self.faults.append(f"{where}: {text}")

    def deref(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def fits(self, where, schema, value):
        self.examples += 1
        check = jsonschema.Draft202012Validator(schema, resolver=self.resolver)
        for e in check.iter_errors(value):
            self.fault(where, f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}")

    def media(self, where, content):
        for name, media in content.items():
            examples = media.get("examples")
            if not examples:
                self.fault(where, f"{name} has no example")
                continue
            if "schema" in media:
                for key, example in examples.items():
                    self.fits(f"{where} {name} {key}", media["schema"], example["value"])

    def headers(self, where, headers):
        for name, header in headers.items():
            header = self.deref(header)
            if "example" not in header:
                self.fault(where, f"header {name} has no example")
            else:
                self.fits(f"{where} header {name}", header["schema"], header["example"])

    def parameters(self, where, parameters, path=None):
        names = set()
        for parameter in parameters:
            parameter = self.deref(parameter)
            names.add(parameter["name"])
            if "example" not in parameter:
                self.fault(where, f"parameter {parameter['name']} has no example")
            else:
                self.fits(
                    f"{where} parameter {parameter['name']}",
                    parameter["schema"],
                    parameter["example"],
                )
        return names

    def kinds(self, where, table, by_status):
        for status, kinds in table.items():
            for kind in kinds:
                if kind not in by_status.get(int(status), ()):
                    self.fault(where, f"{kind} is no kind of status {status}")


def known_kinds(document):
    """status -> kinds, as the examples of the shared problem responses tell them."""
    by_status = {}
    for name, response in document.doc["components"]["responses"].items():
        status = int(name.rsplit("_", 1)[1])
        media = response["content"]["application/problem+json"]
        for example in media["examples"].values():
            value = example["value"]
            if value["status"] != status:
                document.fault(name, f"an example has status {value['status']}")
            by_status.setdefault(status, set()).add(value["type"].removeprefix(KIND_PREFIX))
    listed = document.doc["components"]["schemas"]["problem"]["properties"]["type"]["enum"]
    shown = {KIND_PREFIX + k for kinds in by_status.values() for k in kinds}
    for kind in set(listed) ^ shown:
        document.fault("problem", f"{kind} is not both listed and shown")
    return by_status


def check_operation(document, path, method, op, by_status, everywhere):
    where = op.get("operationId", f"{method} {path}")
    document.parameters(where, op.get("parameters", []))
    body = op.get("requestBody")
    if body:
        document.media(f"{where} request", body["content"])
    kinds = op.get("x-problem-kinds", {})
    document.kinds(where, kinds, by_status)
    for status in set(kinds) | set(everywhere):
        if status not in op["responses"]:
            document.fault(where, f"status {status} has kinds and no response")
    for status, response in op["responses"].items():
        response = document.deref(response)
        document.headers(f"{where} {status}", response.get("headers", {}))
        document.media(f"{where} {status}", response.get("content", {}))
        problem = "application/problem+json" in response.get("content", {})
        if problem and not (kinds.get(status) or everywhere.get(status)):
            document.fault(where, f"status {status} has no problem kinds")
        if "Digstore-Request-Id" not in response.get("headers", {}):
            document.fault(where, f"status {status} has no Digstore-Request-Id")


def main():
    document = Document(sys.argv[1] if len(sys.argv) > 1 else ROOT / "openapi.yaml")
    doc = document.doc
    for name, schema in doc["components"]["schemas"].items():
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as e:
            document.fault(f"schema {name}", e.message)
    by_status = known_kinds(document)
    everywhere = doc["x-problem-kinds"]
    document.kinds("x-problem-kinds", everywhere, by_status)
    document.kinds("x-outside-operations", doc["x-outside-operations"], by_status)
    seen = set()
    for path, item in doc["paths"].items():
        for method in METHODS:
            if method in item:
                op = item[method]
                if op["operationId"] in seen:
                    document.fault(path, f"operationId {op['operationId']} is there twice")
                seen.add(op["operationId"])
                check_operation(document, path, method, op, by_status, everywhere)
    for text in dict.fromkeys(document.faults):
        print(text)
    print(f"{len(seen)} operations, {document.examples} examples, {len(document.faults)} faults")
    return 1 if document.faults or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
