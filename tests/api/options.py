"""Checks docs/engine-api-options.md against a description of the API: every option is in its table, with a state.

    options.py DESCRIPTION PAGE [ENDPOINTS]

ENDPOINTS is the answer of `GET /corten/endpoints`: what belongs to an endpoint that is not built does not work either.
"""

import json
import sys

from description import Description

STATES = {"works", "refused", "ignored", "not yet"}
# Swarm and plugins are declined as a whole.
DECLINED = ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/plugins")
# Structures of request bodies: by definition, or by endpoint where the description has them in line.
STRUCTURES = [
    "ContainerConfig", "HealthConfig", "HostConfig", "RestartPolicy", "Mount", "EndpointSettings", "EndpointIPAMConfig",
    "IPAM", "IPAMConfig", "NetworkConnectRequest", "NetworkDisconnectRequest", "VolumeCreateRequest", "AuthConfig",
    "DeviceMapping", "DeviceRequest", "ThrottleDevice", "PortBinding",
]
INLINE = [
    ("/containers/{id}/exec", "exec create"), ("/exec/{id}/start", "exec start"), ("/networks/create", "network create"),
]
# What an answer tells in a structure that a request has too.
ANSWERS = {"NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address",
           "GlobalIPv6PrefixLen", "DNSNames"}


def described(description):
    """(where, option) for every option that a client may send."""
    options = []
    for path, methods in description.document["paths"].items():
        if path.startswith(DECLINED):
            continue
        for method, operation in methods.items():
            if method == "parameters":
                continue
            where = f"`{method.upper()} {path}`"
            for parameter in operation.get("parameters", []):
                if parameter.get("in") in ("query", "header"):
                    options.append((where, parameter["name"]))
    for name in STRUCTURES:
        if name not in description.definitions:
            continue
        schema, _ = description.resolve({"$ref": f"#/definitions/{name}"})
        for field, content in schema.get("properties", {}).items():
            if name == "EndpointSettings" and field in ANSWERS:
                continue
            options.append((name, field))
            inner, reference = description.resolve(content)
            if name == "Mount" and reference is None:
                options += [(f"{name}.{field}", sub) for sub in inner.get("properties", {})]
    for path, name in INLINE:
        for parameter in description.document["paths"][path]["post"]["parameters"]:
            if parameter["in"] == "body":
                schema, _ = description.resolve(parameter["schema"])
                options += [(name, field) for field in schema.get("properties", {})]
    return list(dict.fromkeys(options))


def documented(page):
    """{(where, option): state} of the page's tables."""
    table = {}
    with open(page, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) >= 3 and cells[1].startswith("`"):
                table[(cells[0], cells[1].strip("`"))] = cells[2]
    return table


def main():
    description, page = Description(sys.argv[1]), sys.argv[2]
    wanted, table = described(description), documented(page)
    wrong = [f"not in the table: | {where} | `{option}` |" for where, option in wanted if (where, option) not in table]
    wrong += [f"{key}: {state!r} is none of {sorted(STATES)}" for key, state in table.items() if state not in STATES]
    wrong += [f"not in the description: {key}" for key in table if key not in wanted]
    if len(sys.argv) > 3:
        with open(sys.argv[3], encoding="utf-8") as file:
            endpoints = {f"`{e['Method']} {e['Path']}`": e["State"] for e in json.load(file)}
        for (where, option), state in table.items():
            if state == "works" and endpoints.get(where, "works") != "works":
                wrong.append(f"{where} {option}: works, but the endpoint is {endpoints[where]}")
    print(f"{len(table)} options")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
