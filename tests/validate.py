#!/usr/bin/python3
"""validate.py SCHEMA FILE...: checks JSON documents against a schema whose references are relative file names."""

import json
import pathlib
import sys
import warnings

with warnings.catch_warnings():
    # Newer releases prefer the package `referencing`, which Debian 12 does not have.
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonschema import RefResolver
from jsonschema.validators import validator_for


def main() -> int:
    schema_path = pathlib.Path(sys.argv[1]).resolve()
    schema = json.loads(schema_path.read_text())
    # Without its `id`, which is an address on the network, references are resolved beside the file.
    schema.pop("id", None)
    schema.pop("$id", None)
    kind = validator_for(schema)
    validator = kind(schema, resolver=RefResolver(schema_path.as_uri(), schema))
    failures = 0
    for path in sys.argv[2:]:
        for error in validator.iter_errors(json.loads(pathlib.Path(path).read_text())):
            where = "/".join(str(part) for part in error.absolute_path)
            print(f"{path}: /{where}: {error.message[:300]}")
            failures += 1
    return 1 if failures else 0


sys.exit(main())
