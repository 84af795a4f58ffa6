# SPDX-License-Identifier: Apache-2.0
"""openapi.yaml as a judge: every answer that the client sees is held against it.

An answer passes if its operation and status are documented, its media type is, its body fits the
schema, the required headers are there and fit theirs, and a problem is of a kind that the operation
lists. What was exercised is remembered.
"""

import json
import pathlib
import re

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = ("get", "head", "put", "post", "delete")
KIND_PREFIX = "urn:digstore:problem:"
PROBLEM = "application/problem+json"


class ContractError(AssertionError):
    pass


class Operation:
    def __init__(self, contract, path, method, spec):
        self.id = spec["operationId"]
        self.method = method.upper()
        self.pattern = path_pattern(contract, path, spec)
        self.rank = len(re.sub(r"\{[^}]*\}", "", path))
        self.responses = {int(s): contract.deref(r) for s, r in spec["responses"].items()}
        self.kinds = merged(contract.doc["x-problem-kinds"], spec.get("x-problem-kinds", {}))


def merged(*tables):
    out = {}
    for table in tables:
        for status, kinds in table.items():
            out.setdefault(int(status), set()).update(kinds)
    return out


def path_pattern(contract, path, spec):
    slashes = {
        p["name"] for p in map(contract.deref, spec.get("parameters", [])) if p.get("x-slashes")
    }
    parts = []
    for literal, name in re.findall(r"([^{]+)|\{([^}]+)\}", path):
        if literal:
            parts.append(re.escape(literal))
        else:
            parts.append(".+" if name in slashes else "[^/]+")
    return re.compile("".join(parts) + r"\Z", re.DOTALL)


class Contract:
    def __init__(self, path=ROOT / "openapi.yaml"):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.load(f, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.resolver = jsonschema.RefResolver("", self.doc)
        self.validators = {}
        self.operations = [
            Operation(self, path, method, item[method])
            for path, item in self.doc["paths"].items()
            for method in METHODS
            if method in item
        ]
        self.operations.sort(key=lambda o: -o.rank)
        self.outside = merged(self.doc["x-outside-operations"])
        self.limits = self.doc["x-limits"]
        self.exercised = set()

    def deref(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    # ---- schemas

    def validator(self, schema):
        key = id(schema)
        if key not in self.validators:
            self.validators[key] = jsonschema.Draft202012Validator(schema, resolver=self.resolver)
        return self.validators[key]

    def fits(self, schema, value, what):
        errors = list(self.validator(schema).iter_errors(value))
        if errors:
            e = jsonschema.exceptions.best_match(errors)
            where = "/".join(map(str, e.absolute_path))
            raise ContractError(f"{what}: at {where or 'top'}: {e.message[:600]}")

    def fits_named(self, name, value):
        self.fits(self.doc["components"]["schemas"][name], value, name)

    # ---- operations

    def find(self, method, target):
        """The operation of a request, or None. HEAD is that of GET where it has none of its own."""
        path = target.partition("?")[0]
        for operation in self.operations:
            if operation.method == method and operation.pattern.match(path):
                return operation
        return self.find("GET", target) if method == "HEAD" else None

    def check(self, method, target, response):
        operation = self.find(method, target)
        what = f"{operation.id if operation else 'no operation'}: {method} {target[:200]} -> {response.status}"
        if operation is None:
            self.check_outside(method, response, what)
            return
        documented = operation.responses.get(response.status)
        if documented is None:
            raise ContractError(f"{what}: status is not documented\n{response!r}")
        self.check_headers(documented, response, what)
        if method == "HEAD" or response.status in (204, 304):
            if response.body:
                raise ContractError(f"{what}: there is a body")
        else:
            self.check_body(operation, documented, response, what)
        if operation.method == method:
            self.exercised.add((operation.id, response.status))

    def check_outside(self, method, response, what):
        kinds = self.outside.get(response.status)
        if kinds is None:
            raise ContractError(f"{what}: not in x-outside-operations\n{response!r}")
        if not kinds:
            self.check_methods(method, response, what)
            return
        documented = self.doc["components"]["responses"][f"problem_{response.status}"]
        self.check_headers(documented, response, what)
        if method != "HEAD":
            self.check_problem(response, kinds, what)

    def check_methods(self, method, response, what):
        if method != "OPTIONS" or response.body:
            raise ContractError(f"{what}: only OPTIONS may say so, without a body\n{response!r}")
        for name in ("Allow", "Digstore-Request-Id"):
            if not response.header(name):
                raise ContractError(f"{what}: no header {name}\n{response!r}")

    def check_headers(self, documented, response, what):
        for name, header in documented.get("headers", {}).items():
            header = self.deref(header)
            value = response.header(name)
            if value is not None:
                self.fits(header["schema"], value, f"{what}: header {name}")
            elif header.get("required"):
                raise ContractError(f"{what}: no header {name}\n{response!r}")

    def check_body(self, operation, documented, response, what):
        content = documented.get("content")
        if content is None:
            if response.body:
                raise ContractError(f"{what}: there is a body")
            return
        media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
        media = content.get(media_type) or content.get("*/*")
        if media is None:
            raise ContractError(
                f"{what}: media type {media_type!r} is not documented\n{response!r}"
            )
        if media_type == PROBLEM and PROBLEM in content:
            self.check_problem(response, operation.kinds.get(response.status, set()), what)
        elif media_type == "application/json" and "schema" in media:
            self.fits(media["schema"], parse_json(response, what), what)

    def check_problem(self, response, kinds, what):
        media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
        if media_type != PROBLEM:
            raise ContractError(f"{what}: a problem of media type {media_type!r}\n{response!r}")
        problem = parse_json(response, what)
        self.fits_named("problem", problem)
        kind = problem["type"].removeprefix(KIND_PREFIX)
        if kind not in kinds:
            raise ContractError(f"{what}: kind {kind} is not documented here\n{problem}")
        if problem["status"] != response.status:
            raise ContractError(f"{what}: the problem says status {problem['status']}")
        if problem["request_id"] != response.header("Digstore-Request-Id"):
            raise ContractError(f"{what}: request_id is not the header's")
        if not problem["instance"].endswith(":" + problem["request_id"]):
            raise ContractError(f"{what}: instance does not name the request")

    # ---- what was exercised

    def never_called(self):
        """operationIds that no test has called with success."""
        good = {name for name, status in self.exercised if status < 400}
        return sorted(o.id for o in self.operations if o.id not in good)


def parse_json(response, what):
    try:
        return json.loads(response.body.decode("utf-8"))
    except ValueError as e:
        raise ContractError(f"{what}: the body is no JSON: {e}\n{response!r}") from None
