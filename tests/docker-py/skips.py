"""A plug-in for pytest, over docker-py's integration suite: what an engine of ours is not asked for, and why.

Besides, what the suite takes for granted: its images are there before each test (some remove them, to pull them again), and no test
leaves its environment or its contexts to the next.
"""

import os
import re
import shutil

import docker
import pytest

SWARM = "Swarm: declined"
PLUGINS = "managed plugins: declined"
HUB = "Docker's hub itself is asked: what a mirror has not, and for lists of tags"

# By the first pattern that a test's name matches.
SKIPS = [
    (r"api_(config|secret|service|swarm)_test|models_(nodes|services|swarm)_test", SWARM),
    (r"TestNetworks::test_create_(inspect_network_with_scope|network_attachable|network_ingress)$", SWARM),
    (r"api_plugin_test", PLUGINS),
    (r"test_run_with_image_that_does_not_exist$|::test_pull_(multiple|with_sha)$", HUB),
    (r"test_build_(out_of|in)_context(_nested|_abs)?_dockerfile$", "the log of a program is asked for while it runs, and taken for all of it"),
    (r"test_build_with_cache_from$", "steps are found whatever cache_from names, and ENV is none"),
    (r"credentials/store_test", "no credential helper is installed; they fail with Docker, too"),
    (r"test_run_container_reading_socket_ws$", "the library's mistake: it opens http+docker://; it fails with Docker, too"),
]
# What the API has no more in newer versions, in Docker's engine either: until which it is asked for.
GONE = [(r"CreateContainerTest::test_create_with_mac_address$", "1.52", "NetworkSettings.MacAddress")]

IMAGES = {"busybox:latest", "alpine:3.10", "alpine:latest", "hello-world:latest"}
ENVIRONMENT = os.environ
HOST, ARCHIVE = os.environ["DOCKER_HOST"], os.environ["SUITE_IMAGES"]


def reason_to_skip(name):
    for pattern, reason in SKIPS:
        if re.search(pattern, name):
            return reason
    asked = os.environ.get("DOCKER_TEST_API_VERSION")
    for pattern, version, what in GONE:
        if re.search(pattern, name) and (asked is None or docker.utils.version_gte(asked, version)):
            return f"{what}: gone from the API since {version}; passes with DOCKER_TEST_API_VERSION=1.51"
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        reason = reason_to_skip(item.nodeid)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    counts = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        counts[reason] = counts.get(reason, 0) + 1
    for reason, count in sorted(counts.items(), key=lambda entry: -entry[1]):
        terminalreporter.write_line(f"{count:4} {reason.removeprefix('Skipped: ')}")


@pytest.fixture(autouse=True, scope="session")
def images_from_the_beginning():
    add_images()


@pytest.fixture(autouse=True)
def as_it_was():
    add_images()
    yield
    os.environ = ENVIRONMENT
    # Where the suite's contexts go, depending on what is there.
    for directory in (os.path.expanduser("~/.docker"), "contexts"):
        shutil.rmtree(directory, ignore_errors=True)


def add_images():
    client = docker.DockerClient(base_url=HOST, version="auto")
    there = {tag for image in client.api.images() for tag in image["RepoTags"] or []}
    if not there >= IMAGES:
        with open(ARCHIVE, "rb") as archive:
            client.images.load(archive.read())
    client.close()
