# SPDX-License-Identifier: Apache-2.0
"""Convert YAML on standard input to compact JSON on standard output, as YAML 1.2 means it."""

import json
import sys

import yaml


class Loader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's dates and yes/no, and without silent duplicate keys."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def resolvers_of_yaml_1_2():
    resolvers = {}
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items():
        kept = [
            (tag, pattern)
            for tag, pattern in entries
            if tag != "tag:yaml.org,2002:timestamp"
            and not (tag == "tag:yaml.org,2002:bool" and first in "yYnNoO")
        ]
        resolvers[first] = kept
    return resolvers


Loader.yaml_implicit_resolvers = resolvers_of_yaml_1_2()

try:
    document = yaml.load(sys.stdin.buffer, Loader)
except yaml.YAMLError as error:
    sys.exit(f"yaml_to_json.py: {error}")
text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
sys.stdout.buffer.write(text.encode() + b"\n")
