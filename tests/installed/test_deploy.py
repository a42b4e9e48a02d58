"""The files for containers agree with the package: what they copy, call, read and draw is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

from isthmus.cli import serve
from isthmus.serving.metrics import Metrics


def service(repository: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((repository / "compose.yaml").read_text())["services"][name]


def test_the_image_is_given_all_that_the_wheels_are_made_of(repository: Path) -> None:
    dockerfile = (repository / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    wanted = {*project["tool"]["hatch"]["build"]["only-include"], project["project"]["readme"], "pyproject.toml"}
    assert {name.removesuffix("/isthmus") for name in wanted} | {"LICENSE", "checkpoints/pocket"} <= copied
    kept = {line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied <= kept and all((repository / name).exists() for name in copied)


def test_the_image_serves_as_nobody_in_particular_and_tells_its_health(repository: Path) -> None:
    lines = (repository / "Dockerfile").read_text().splitlines()
    command = next(json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD "))
    options = serve.parser().parse_args(command[1:])
    assert command[0] == "serve" and options.host == "0.0.0.0" and options.model == ["/model"]
    assert f"EXPOSE {options.port}" in lines and "USER 10001" in lines
    assert options.hosts.split(",") == ["127.0.0.1", "localhost", "isthmus"]  # the last one is what Prometheus asks
    (health,) = (line for line in lines if "urlopen" in line)
    assert f"http://127.0.0.1:{options.port}/ready" in health
    own = service(repository, "isthmus")
    assert own["volumes"][0].endswith(":/model:ro") and own["read_only"]
    assert int(own["stop_grace_period"].removesuffix("s")) > options.timeout
    for name in ("isthmus", "prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in service(repository, name)["ports"])


def test_grafana_knows_no_password(repository: Path) -> None:
    environment = service(repository, "grafana")["environment"]
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_prometheus_reads_the_server_and_grafana_reads_prometheus(repository: Path) -> None:
    (job,) = yaml.safe_load((repository / "deploy/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["isthmus:8000"]}] and service(repository, "isthmus")
    provisioning = repository / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    port = service(repository, "prometheus")["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{port}"
    (provider,) = yaml.safe_load((provisioning / "dashboards/isthmus.yaml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2] for volume in service(repository, "grafana")["volumes"])
    folder = next(own for own, inside in mounted.items() if inside == provider["options"]["path"])
    (board,) = (repository / folder).glob("*.json")
    home = service(repository, "grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{board.name}"
    for mounts in (service(repository, "prometheus")["volumes"], service(repository, "grafana")["volumes"]):
        assert all((repository / mount.split(":")[0]).exists() for mount in mounts if mount.startswith("./"))


def test_the_dashboard_draws_figures_that_the_server_has(repository: Path) -> None:
    metrics = Metrics(lambda: {"waiting": 0})
    metrics.requests.labels("/v1/models", "200").inc()
    metrics.seconds.labels("/v1/models").observe(1)
    metrics.tokens.labels("prompt").inc()
    told = re.findall(r"^(\w+)\{(.*)\}", metrics.text().decode(), re.MULTILINE)
    labels = {name: {pair.partition("=")[0] for pair in pairs.split(",")} for name, pairs in told}
    board = json.loads((repository / "deploy/grafana/dashboards/isthmus.json").read_text())
    drawn = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "prometheus"
        for target in panel["targets"]:
            named = set(re.findall(r"isthmus_\w+", target["expr"]))
            assert named <= labels.keys(), target["expr"]
            drawn |= named
            used = {name for group in re.findall(r"by \(([\w, ]+)\)", target["expr"]) for name in group.split(", ")}
            assert all(used <= labels[name] for name in named), target["expr"]
    own = {name for name in labels if not name.endswith(("_created", "_count", "_sum"))}
    assert drawn == own  # a figure that nobody draws is missing in the dashboard


def torchrun(repository: Path, tmp_path: Path, command: list[str], variables: dict[str, str]) -> list[str]:
    """What torchrun would be given, by a Python that writes its arguments down."""
    python, asked = tmp_path / "python", tmp_path / "asked.txt"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\n')
    python.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MASTER", "N", "ENGINE"))}
    environment = kept | {"PYTHON": str(python)} | variables
    ran = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return asked.read_text().splitlines()


def option(asked: list[str], name: str) -> str:
    return asked[asked.index(name) + 1]


def test_a_jobset_starts_torchrun_on_every_pod_and_goes_on_after_a_restart(repository: Path, tmp_path: Path) -> None:
    made = yaml.safe_load((repository / "deploy/kubernetes/jobset.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = made["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value", "1") for each in container["env"] if each["name"] != "PYTHON"}
    asked = torchrun(repository, tmp_path, container["command"] + container["args"], variables)
    assert option(asked, "--nnodes") == str(job["completions"]) == str(job["parallelism"])
    assert option(asked, "--node-rank") == "1"
    assert option(asked, "--nproc-per-node") == container["resources"]["limits"]["nvidia.com/gpu"]
    assert option(asked, "--master-addr") == f"{made['metadata']['name']}-{replicated['name']}-0-0.isthmus"
    assert option(asked, "--ckpt_path") == "auto"
    assert pod["terminationGracePeriodSeconds"] > int(option(asked, "--shutdown-timeout"))
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


def test_skypilot_starts_torchrun_on_every_machine(repository: Path, tmp_path: Path) -> None:
    made = yaml.safe_load((repository / "deploy/skypilot.yaml").read_text())
    told = {"NUM_NODES": "2", "NODE_RANK": "1", "NUM_GPUS_PER_NODE": "8", "NODE_IPS": "10.0.0.1\n10.0.0.2"}
    variables = {f"SKYPILOT_{name}": value for name, value in told.items()}
    asked = torchrun(repository, tmp_path, ["bash", "-euc", made["run"]], variables)
    assert option(asked, "--nnodes") == str(made["num_nodes"]) and option(asked, "--node-rank") == "1"
    assert option(asked, "--master-addr") == "10.0.0.1" and option(asked, "--nproc-per-node") == "8"
    assert option(asked, "--training.folder").startswith(next(iter(made["file_mounts"])))
