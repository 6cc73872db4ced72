"""deploy/aws/gpu-worker.yaml: what it makes, what it allows, and what its own stop does, on moto."""

import base64
import json
import re
import subprocess
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import boto3
import cfnlint
import pytest
import yaml
from moto import mock_aws

from mnist_ops.settings import Settings

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "deploy" / "aws" / "gpu-worker.yaml"
TEXT = TEMPLATE.read_text(encoding="utf-8")
REGION = "us-east-1"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mnist-ops/worker-AbCdEf"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mnist-ops:0.1.0-gpu"
# AWS publishes images under such names. moto knows the second, and reads the default whatever is given.
MACHINE_IMAGE = (
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
)
IMAGE_OF_MOTO = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
# At most what the names in it say, wherever a policy has to name all resources.
ON_ALL_RESOURCES = {
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
    "cloudwatch:GetMetricStatistics",
    "ec2:DescribeInstances",
}


class _Loader(yaml.SafeLoader):
    """Reads `!Ref` and its like as what they abbreviate."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    build: Callable[..., Any] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }[type(node)]
    value = build(node)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """The template, parsed."""
    return yaml.load(TEXT, _Loader)  # noqa: S506 (a safe loader)


@pytest.fixture(scope="module")
def resources(template) -> dict[str, Any]:
    """Its resources by logical id."""
    return template["Resources"]


def of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The properties of all resources of a type, by logical id."""
    return {name: body["Properties"] for name, body in resources.items() if body["Type"] == kind}


def statements(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every statement of every policy."""
    documents = [
        policy["PolicyDocument"]
        for role in of_type(resources, "AWS::IAM::Role").values()
        for policy in role["Policies"]
    ]
    documents += [
        policy["PolicyDocument"] for policy in of_type(resources, "AWS::IAM::ManagedPolicy").values()
    ]
    return [statement for document in documents for statement in document["Statement"]]


def actions(statement: Mapping[str, Any]) -> set[str]:
    """What a statement allows."""
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


# --- the template itself


def test_the_template_is_valid_cloudformation() -> None:
    """By cfn-lint, which knows every resource's schema; warnings count."""
    assert [str(match) for match in cfnlint.lint(TEXT, regions=[REGION])] == []


def test_the_linter_would_notice_a_misspelt_property() -> None:
    """The check above can fail."""
    assert cfnlint.lint(TEXT.replace("RetentionInDays", "RetentionDays"), regions=[REGION])


def test_nothing_can_connect_to_the_instance(resources) -> None:
    """No ingress, and no key pair for SSH."""
    [group] = of_type(resources, "AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert not of_type(resources, "AWS::EC2::SecurityGroupIngress")
    assert "KeyName" not in TEXT


def test_the_data_volume_is_encrypted_and_outlives_the_stack(resources) -> None:
    """And so does the rest of what is written to disks, as far as the first goes."""
    volume = resources["DataVolume"]
    assert (volume["DeletionPolicy"], volume["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert volume["Properties"]["Encrypted"] is True
    [template] = of_type(resources, "AWS::EC2::LaunchTemplate").values()
    [root] = template["LaunchTemplateData"]["BlockDeviceMappings"]
    assert root["Ebs"]["Encrypted"] is True


def test_the_instances_own_credentials_need_a_session(resources) -> None:
    """A request forged by a web address that the worker fetches cannot read them."""
    [template] = of_type(resources, "AWS::EC2::LaunchTemplate").values()
    assert template["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_template_holds_no_secret(template) -> None:
    """It names the secret that holds them, and no parameter takes one."""
    assert not re.search(
        r"AKIA[0-9A-Z]{16}|://[^/\s:@]+:[^@\s]+@|(password|secret_key)\s*[:=]\s*\S", TEXT, re.IGNORECASE
    )
    assert not [
        name for name in template["Parameters"] if re.search("password|key|token", name, re.IGNORECASE)
    ]
    assert "secretsmanager get-secret-value" in TEXT


def test_no_policy_allows_everything(resources) -> None:
    """Neither all actions of a service, nor more than looking at all resources."""
    found = statements(resources)
    assert len(found) > 8
    for statement in found:
        assert statement["Effect"] == "Allow"
        assert not [action for action in actions(statement) if "*" in action]
        if statement["Resource"] == "*":
            assert actions(statement) <= ON_ALL_RESOURCES


def test_only_this_instance_can_be_started_or_stopped(resources) -> None:
    """By Airflow and by the independent stop."""
    for statement in statements(resources):
        if actions(statement) & {"ec2:StartInstances", "ec2:StopInstances"}:
            assert statement["Resource"]["Fn::Sub"].endswith(":instance/${Instance}")


# --- what the instance does at its start


@pytest.fixture(scope="module")
def user_data(resources) -> str:
    """The script of the first boot, as the instance gets it."""
    [template] = of_type(resources, "AWS::EC2::LaunchTemplate").values()
    text: str = template["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    values = {"Image": IMAGE, "EnvironmentSecret": SECRET, "AWS::Region": REGION}
    values |= {"AWS::AccountId": "123456789012", "AWS::URLSuffix": "amazonaws.com"}
    return re.sub(r"\$\{([\w:]+)\}", lambda match: values[match[1]], text)


def scripts(user_data: str) -> dict[str, str]:
    """The script itself, and those it writes, by file."""
    written = re.findall(r"^cat >(\S+) <<'(\w+)'\n(.*?)^\2$", user_data, re.MULTILINE | re.DOTALL)
    return {"user data": user_data} | {name: text for name, _, text in written if "/bin/" in name}


def test_every_script_is_valid(user_data) -> None:
    """Bash reads them without running them."""
    assert len(scripts(user_data)) == 3
    for text in scripts(user_data).values():
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert user_data.startswith("#!")


@pytest.mark.parametrize(
    ("found", "formatted", "ended"),
    [
        pytest.param(0, [], 0, id="a file system"),
        pytest.param(2, ["-L mnist-ops /dev/sdf"], 0, id="nothing"),
        pytest.param(4, [], 4, id="an error"),
        pytest.param(8, [], 8, id="more than one file system"),
    ],
)
def test_only_a_volume_on_which_nothing_is_found_is_formatted(
    user_data, tmp_path, found, formatted, ended
) -> None:
    """It may hold the checkpoints of former trainings, so anything else but a file system ends the script."""
    [fragment] = re.findall(r"^found=0\n.*?^esac$", user_data, re.MULTILINE | re.DOTALL)
    assert user_data.count("mkfs") == fragment.count("mkfs") == 1
    calls = {name: tmp_path / f"{name}.calls" for name in ("blkid", "mkfs.ext4")}
    for name, status in (("blkid", found), ("mkfs.ext4", 0)):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho "$@" >>{calls[name]}\nexit {status}\n')
        stub.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash"],
        input=f"set -euo pipefail\n{fragment}\n",
        text=True,
        env={"PATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == ended
    assert calls["blkid"].read_text() == "-p /dev/sdf\n"
    assert (calls["mkfs.ext4"].read_text().splitlines() if calls["mkfs.ext4"].exists() else []) == formatted


def test_the_worker_is_that_of_the_compose_file(user_data) -> None:
    """The same command, on the queue gpu, one task at a time."""
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
    worker = compose["services"]["airflow-worker-gpu"]
    assert " ".join(worker["command"]) in user_data
    for name in ("AIRFLOW__CELERY__WORKER_CONCURRENCY", "DUMB_INIT_SETSID"):
        assert f"--env {name}={worker['environment'][name]}" in user_data


def test_every_setting_that_the_worker_is_given_exists(user_data) -> None:
    """Checkpoints go to the volume."""
    named = {name.lower() for name in re.findall(r"\bMNIST_OPS_(\w+)=", user_data)}
    assert named == {"training_dir"}
    assert named <= set(Settings.model_fields)


# --- on moto


@dataclass(frozen=True)
class Stack:
    """The deployed template.

    Attributes:
        outputs: by name.
        resources: the physical ids by logical id.
    """

    outputs: Mapping[str, str]
    resources: Mapping[str, str]

    @property
    def instance(self) -> dict[str, Any]:
        """The instance as EC2 describes it."""
        found = client("ec2").describe_instances(InstanceIds=[self.outputs["InstanceId"]])
        return found["Reservations"][0]["Instances"][0]


def client(service: str) -> Any:
    """A client of a service on moto."""
    return boto3.client(service)


@pytest.fixture
def stack(request, monkeypatch) -> Iterator[Stack]:
    """The template, deployed; a test's own parameters come by indirect parametrization."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        ec2 = client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        parameters = {
            "VpcId": vpc,
            "SubnetId": subnet,
            "VpcCidr": "10.0.0.0/16",
            "Bucket": "mnist-ops",
            "Image": IMAGE,
            "EnvironmentSecret": SECRET,
        } | getattr(request, "param", {})
        cloudformation = client("cloudformation")
        cloudformation.create_stack(
            StackName="gpu",
            TemplateBody=TEXT.replace(MACHINE_IMAGE, IMAGE_OF_MOTO),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        [found] = cloudformation.describe_stacks(StackName="gpu")["Stacks"]
        assert found["StackStatus"] == "CREATE_COMPLETE"
        made = cloudformation.describe_stack_resources(StackName="gpu")["StackResources"]
        yield Stack(
            {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]},
            # moto lists what a condition leaves out as well, without any name.
            {
                each["LogicalResourceId"]: each.get("PhysicalResourceId", "")
                for each in made
                if "LogicalResourceId" in each
            },
        )


def test_the_stack_has_the_instance_with_its_volume(stack) -> None:
    """Its id is one that the setting takes."""
    assert stack.instance["InstanceType"] == "g4dn.xlarge"
    assert Settings(training_instance_id=stack.outputs["InstanceId"]).training_instance_id
    [volume] = client("ec2").describe_volumes(VolumeIds=[stack.outputs["DataVolumeId"]])["Volumes"]
    assert volume["Size"] == 50
    assert volume["Attachments"][0]["InstanceId"] == stack.outputs["InstanceId"]


@pytest.mark.parametrize("stack", [{"AttachDataVolume": "no"}], indirect=True)
def test_an_instance_that_is_to_be_replaced_gives_its_volume_back(stack) -> None:
    """Attaching it to the new one would fail meanwhile; moto would let it pass, so this is all it shows."""
    [volume] = client("ec2").describe_volumes(VolumeIds=[stack.outputs["DataVolumeId"]])["Volumes"]
    assert volume["Attachments"] == []


def test_the_output_names_the_image_that_keeps_the_instance(stack) -> None:
    """AWS's newest of the first deployment."""
    assert stack.outputs["MachineImageId"] == stack.instance["ImageId"]


@pytest.mark.parametrize("stack", [{"MachineImageId": "ami-12c6146b"}], indirect=True)
def test_a_machine_image_that_is_named_goes_before_the_newest(stack) -> None:
    """Otherwise a later deployment would replace the instance."""
    assert stack.instance["ImageId"] == stack.outputs["MachineImageId"] == "ami-12c6146b"


def test_the_launch_template_carries_the_start_script(stack) -> None:
    """With the parameters in their places."""
    [version] = client("ec2").describe_launch_template_versions(
        LaunchTemplateId=stack.resources["LaunchTemplate"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    script = base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
    assert f"--secret-id '{SECRET}'" in script
    assert f"docker pull '{IMAGE}'" in script
    assert "${" not in script


def test_a_schedule_calls_the_stop(stack) -> None:
    """Every five minutes, and it may."""
    events, functions = client("events"), client("lambda")
    name = stack.resources["StopRule"].rpartition("/")[2]
    rule = events.describe_rule(Name=name)
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(5 minutes)", "ENABLED")
    function = functions.get_function(FunctionName=stack.resources["StopFunction"])["Configuration"]
    [target] = events.list_targets_by_rule(Rule=name)["Targets"]
    assert target["Arn"] == function["FunctionArn"]
    assert function["Environment"]["Variables"]["INSTANCE_ID"] == stack.outputs["InstanceId"]
    policy = json.loads(functions.get_policy(FunctionName=function["FunctionName"])["Policy"])
    [statement] = policy["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"]["ArnLike"]["AWS:SourceArn"] == rule["Arn"]


# --- the stop itself: the template's own code, on moto's instance


@pytest.fixture
def look(stack, resources, monkeypatch) -> Callable[[timedelta], str]:
    """Run the stop's code as if the instance had been started so long ago; returns what it found."""
    code = resources["StopFunction"]["Properties"]["Code"]["ZipFile"]
    index = types.ModuleType("index")
    exec(compile(code, "index.py", "exec"), index.__dict__)  # noqa: S102 (the template's own)
    function = client("lambda").get_function(FunctionName=stack.resources["StopFunction"])
    for name, value in function["Configuration"]["Environment"]["Variables"].items():
        monkeypatch.setenv(name, str(value))

    def run(age: timedelta) -> str:
        now = stack.instance["LaunchTime"] + age
        event = {"source": "aws.events", "time": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return index.handler(event, None)

    return run


def busy(stack: Stack, age: timedelta, cpu: float, gpu: float | None = None, *, minutes: int = 60) -> None:
    """Note what the instance did in the minutes before a moment, a value in five minutes."""
    now = stack.instance["LaunchTime"] + age
    values = {("AWS/EC2", "CPUUtilization"): cpu, ("MnistOps", "GpuUtilization"): gpu}
    for (namespace, name), value in values.items():
        for ago in range(1, minutes, 5):
            if value is not None:
                datum = {
                    "MetricName": name,
                    "Dimensions": [{"Name": "InstanceId", "Value": stack.outputs["InstanceId"]}],
                    "Timestamp": now - timedelta(minutes=ago),
                    "Value": value,
                }
                client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])


HOUR = timedelta(hours=1)


def test_an_instance_past_its_lifetime_is_stopped_however_busy(stack, look) -> None:
    """A training that hangs costs no more than that."""
    age = 14 * HOUR + timedelta(minutes=1)
    busy(stack, age, cpu=99.0, gpu=99.0)
    assert look(age) == "ran longer than 14 h"
    assert stack.instance["State"]["Name"] == "stopped"


def test_an_idle_instance_is_stopped(stack, look) -> None:
    """Its scheduler may be gone, and the teardown with it."""
    busy(stack, HOUR, cpu=2.0, gpu=0.0)
    assert look(HOUR) == "idle for 30 min"
    assert stack.instance["State"]["Name"] == "stopped"


@pytest.mark.parametrize(
    ("age", "cpu", "gpu"),
    [
        pytest.param(HOUR, 40.0, 0.0, id="processor busy"),
        pytest.param(HOUR, 2.0, 60.0, id="GPU busy"),
        pytest.param(13 * HOUR, 25.0, None, id="busy, the GPU unknown, near the end of its lifetime"),
        pytest.param(timedelta(minutes=10), 1.0, 0.0, id="just started"),
    ],
)
def test_an_instance_that_is_busy_or_young_is_left_alone(stack, look, age, cpu, gpu) -> None:
    """A worker needs minutes until it takes its first task."""
    busy(stack, age, cpu, gpu)
    assert look(age) == "left running"
    assert stack.instance["State"]["Name"] == "running"


def test_an_instance_that_nothing_is_known_about_is_left_until_its_lifetime_ends(stack, look) -> None:
    """Missing metrics are no proof of idleness."""
    busy(stack, HOUR, cpu=1.0, minutes=10)
    assert look(HOUR) == "left running"
    assert look(15 * HOUR) == "ran longer than 14 h"


def test_an_instance_that_is_not_running_is_not_touched(stack, look) -> None:
    """It is looked at every five minutes, most of the time in vain."""
    client("ec2").stop_instances(InstanceIds=[stack.outputs["InstanceId"]])
    assert look(100 * HOUR) == "stopped"


def test_the_lifetime_is_longer_than_any_training() -> None:
    """Otherwise the stop would kill what is still within its time limit."""
    limit = re.search(
        r"execution_timeout=timedelta\(hours=(\d+)\)", (ROOT / "dags/train_lenet.py").read_text()
    )
    assert limit is not None
    lifetime = yaml.load(TEXT, _Loader)["Parameters"]["MaximumHours"]["Default"]  # noqa: S506
    assert lifetime > int(limit[1])
