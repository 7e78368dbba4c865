"""Docker's description of the Engine API (Swagger 2.0), and whether an answer is as it says.

Looser than the description in one way: where it wants a list or a map, null will do, as Go writes nil ones. Stricter in
another: a field that it does not name is a mistake.
"""

import re

import yaml

# Fields that the description does not name, by definition or title: of Docker's engine, or our own.
FORGOTTEN = {
    "EventMessage": {"status", "id", "from"},
    # Since 1.52 for clients that do not say `verbose`, beside the new shape.
    "SystemDataUsageResponse": {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"},
    # Our own.
    "ContainerStatsResponse": {"pressure_stats"},
    "ContainerState": {"ExitReason"},
    "ContainerSummary": {"ExitReason"},
}
# Pointers in Docker's engine, which writes null where nothing was said.
POINTERS = {"MemorySwappiness", "OomKillDisable", "ExitCode"}


class Description:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.document = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.version = str(self.document["info"]["version"])
        self.definitions = self.document["definitions"]
        self.patterns = []
        for template, methods in self.document["paths"].items():
            # Names of images hold slashes.
            pattern = re.sub(r"\\{[^}]*\\}", "(.+)", re.escape(template))
            self.patterns.append((re.compile(f"^{pattern}$"), template, methods))
        # Fixed words before placeholders: `/images/json` is not the image `json`.
        self.patterns.sort(key=lambda entry: entry[1].count("{"))

    def operation(self, method, path):
        for pattern, template, methods in self.patterns:
            if pattern.match(path) and method.lower() in methods:
                return template, methods[method.lower()]
        return None, None

    def resolve(self, schema):
        """Follows references and folds `allOf` into one schema; yields it with the definition's name."""
        name = None
        while "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            nullable = schema.get("x-nullable")
            schema = dict(self.definitions[name])
            if nullable:
                schema["x-nullable"] = True
        if "allOf" in schema:
            folded = {key: value for key, value in schema.items() if key != "allOf"}
            properties = dict(folded.get("properties", {}))
            for part in schema["allOf"]:
                part, _ = self.resolve(part)
                properties.update(part.get("properties", {}))
                for key, value in part.items():
                    folded.setdefault(key, value)
            if properties:
                folded["properties"] = properties
            schema = folded
        return schema, name

    def mistakes(self, schema, value, where="$"):
        """What of a value is not as a schema says, one line each."""
        schema, name = self.resolve(schema)
        name = name or schema.get("title")
        kind = schema.get("type", "object" if "properties" in schema else None)
        if value is None:
            pointer = where.rsplit(".", 1)[-1] in POINTERS
            fine = schema.get("x-nullable") or pointer or kind in ("array", "object", None)
            return [] if fine else [f"{where}: null instead of {kind}"]
        if kind == "object":
            return self.object_mistakes(schema, name, value, where)
        if kind == "array":
            if not isinstance(value, list):
                return [f"{where}: {value!r} is no list"]
            items = schema.get("items", {})
            return [m for i, item in enumerate(value) for m in self.mistakes(items, item, f"{where}[{i}]")]
        types = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if kind in types:
            # In Python true is a number.
            fits = isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))
            if not fits:
                return [f"{where}: {value!r} is no {kind}"]
        if "enum" in schema and value not in schema["enum"] and value != "":
            return [f"{where}: {value!r} is none of {schema['enum']}"]
        return []

    def object_mistakes(self, schema, name, value, where):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        # Some definitions require what they do not have.
        required = [field for field in schema.get("required", []) if field in known or not known]
        found = [f"{where}: {field} is missing" for field in required if field not in value]
        for field, content in value.items():
            place = f"{where}.{field}"
            if field in known:
                found += self.mistakes(known[field], content, place)
            elif isinstance(extra, dict):
                found += self.mistakes(extra, content, place)
            elif known and not extra and field not in FORGOTTEN.get(name, ()):
                found.append(f"{place}: not in the description ({name})")
        return found
