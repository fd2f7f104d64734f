"""What the self-check works with: a client of the local AWS, and resources made by it.

They are in an AWS account of their own, so that they meet nobody else's, and are
removed afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import io
import json
import re
import shlex
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlencode

ACCOUNT = "999999999999"
REGION = "us-east-1"
PREFIX = "bellwire-self-check"
WAIT_S = 10
POLL_S = 0.01

CRASHING = "#!/bin/sh\necho said before the end\nexit 3\n"

WORKER = """
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/invocation/"
while True:
    api.request("GET", base + "next")
    answer = api.getresponse()
    event = json.loads(answer.read() or "{}")
    request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    print(event.get("print") or "checked", flush=True)
    seen = {"group": os.getpgid(0), "variables": sorted(os.environ)}
    error = {"errorType": "Checked", "errorMessage": json.dumps(seen)}
    api.request("POST", base + request_id + "/error", json.dumps(error))
    api.getresponse().read()
"""


class CheckFailed(Exception):
    """A behaviour that is not AWS's."""


class Answer(NamedTuple):
    status: int
    body: str

    def json(self) -> Any:
        return json.loads(self.body or "{}")

    def field(self, name: str) -> str:
        found = re.search(f"<{name}>([^<]*)</{name}>", self.body)
        require(found is not None, f"no {name} in {self.body[:300]}")
        return found.group(1) if found else ""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


class Client:
    """Calls the local AWS as the account's root, or as a user with a key."""

    def __init__(self, port: int, key: str = ACCOUNT, secret: str = "") -> None:
        self._port = port
        self._key = key
        self._secret = secret

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())

    def signed(
        self, service: str, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        headers = {"host": f"127.0.0.1:{self._port}", **headers}
        headers |= signature(
            self._key, self._secret, service, method, path, body, headers
        )
        return self.request(method, path, body, headers)

    def query(self, service: str, action: str, **parameters: str) -> Answer:
        body = urlencode({"Action": action, **parameters}).encode()
        content_type = {"content-type": "application/x-www-form-urlencoded"}
        return self.signed(service, "POST", "/", body, content_type)

    def target(self, service: str, action: str, parameters: dict) -> Answer:
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": action,
        }
        return self.signed(
            service, "POST", "/", json.dumps(parameters).encode(), headers
        )

    def lambda_(self, method: str, path: str, parameters: Any = None, **headers: str):
        body = b"" if parameters is None else json.dumps(parameters).encode()
        return self.signed("lambda", method, path, body, headers)


def signature(
    key: str,
    secret: str,
    service: str,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
) -> dict[str, str]:
    """The headers of AWS Signature Version 4; for a root key any signature will do."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/{REGION}/{service}/aws4_request"
    signed = {name.lower(): value for name, value in headers.items()}
    signed["x-amz-date"] = now
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            method,
            path.partition("?")[0],
            path.partition("?")[2],
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
    chain = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        chain = hmac.new(chain, part.encode(), hashlib.sha256).digest()
    value = hmac.new(chain, to_sign.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, "
        f"SignedHeaders={names}, Signature={value}"
    )
    return {"x-amz-date": now, "authorization": authorization}


def arn(service: str, resource: str) -> str:
    region = "" if service == "iam" else REGION
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


class Bench:
    """What the checks share: a function that always fails, queues, topics, rules."""

    function = f"{PREFIX}-function"
    throttled = f"{PREFIX}-throttled"
    crashing = f"{PREFIX}-crashing"
    role = f"{PREFIX}-role"
    function_arn = arn("lambda", f"function:{function}")
    alias_arn = f"{function_arn}:live"
    role_arn = arn("iam", f"role/{role}")

    def __init__(self, port: int) -> None:
        self.port = port
        self.root = Client(port)
        self._removals: list[Callable[[], Any]] = []

    def remove(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda removal: removal(), reversed(self._removals)):
                pass

    def queue(self, name: str, statements: list[dict] | None = None) -> str:
        """Makes a queue, and returns its ARN."""
        name = f"{PREFIX}-{name}"
        attributes = {}
        if statements is not None:
            attributes["Policy"] = json.dumps({"Statement": statements})
        made = self.sqs("CreateQueue", QueueName=name, Attributes=attributes)
        require(made.status == 200, made.body)
        self._removals.append(lambda: self.sqs("DeleteQueue", QueueUrl=self.url(name)))
        return arn("sqs", name)

    def sqs(self, action: str, **parameters: Any) -> Answer:
        return self.root.target("sqs", f"AmazonSQS.{action}", parameters)

    def url(self, queue: str) -> str:
        name = queue.rsplit(":", 1)[-1]
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}/{name}"

    def receive(self, queue: str) -> dict:
        """Waits for the queue's next message, and deletes it."""
        answer = self.sqs(
            "ReceiveMessage",
            QueueUrl=self.url(queue),
            WaitTimeSeconds=WAIT_S,
            MessageAttributeNames=["All"],
        )
        messages = answer.json().get("Messages", [])
        require(bool(messages), f"nothing arrived on {queue}")
        handle = messages[0]["ReceiptHandle"]
        self.sqs("DeleteMessage", QueueUrl=self.url(queue), ReceiptHandle=handle)
        return messages[0]

    def topic(
        self, name: str, statements: list[dict] | None = None, **attributes: str
    ) -> str:
        topic = arn("sns", f"{PREFIX}-{name}")
        if statements is not None:
            attributes["Policy"] = json.dumps({"Statement": statements})
        parameters = {}
        for index, (key, value) in enumerate(attributes.items(), 1):
            parameters[f"Attributes.entry.{index}.key"] = key
            parameters[f"Attributes.entry.{index}.value"] = value
        made = self.root.query(
            "sns", "CreateTopic", Name=f"{PREFIX}-{name}", **parameters
        )
        require(made.status == 200, made.body)
        self._removals.append(
            lambda: self.root.query("sns", "DeleteTopic", TopicArn=topic)
        )
        return topic

    def bucket(self, name: str) -> str:
        """Makes a bucket, and returns its ARN."""
        name = f"{PREFIX}-{name}"
        made = self.root.signed("s3", "PUT", f"/{name}", b"", {})
        require(made.status == 200, made.body)
        self._removals.append(
            lambda: self.root.signed("s3", "DELETE", f"/{name}", b"", {})
        )
        return f"arn:aws:s3:::{name}"

    def notify(self, bucket: str, topic: str) -> Answer:
        """Has a bucket tell a topic of all that arrives in it."""
        configuration = (
            "<NotificationConfiguration><TopicConfiguration>"
            f"<Topic>{topic}</Topic><Event>s3:ObjectCreated:*</Event>"
            "</TopicConfiguration></NotificationConfiguration>"
        )
        name = bucket.rsplit(":", 1)[-1]
        path = f"/{name}?notification="
        return self.root.signed("s3", "PUT", path, configuration.encode(), {})

    def key(self, name: str, statements: list[dict]) -> str:
        """Makes a KMS key, and returns its alias."""
        policy = json.dumps({"Statement": statements})
        made = self.kms("CreateKey", Policy=policy)
        require(made.status == 200, made.body)
        key_id = made.json()["KeyMetadata"]["KeyId"]
        alias = f"alias/{PREFIX}-{name}"
        self.kms("CreateAlias", AliasName=alias, TargetKeyId=key_id)

        def remove() -> None:
            self.kms("DeleteAlias", AliasName=alias)
            self.kms("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)

        self._removals.append(remove)
        return alias

    def key_policy(self, key: str, statements: list[dict]) -> None:
        policy = json.dumps({"Statement": statements})
        self.kms("PutKeyPolicy", KeyId=key, PolicyName="default", Policy=policy)

    def kms(self, action: str, **parameters: Any) -> Answer:
        return self.root.target("kms", f"TrentService.{action}", parameters)

    def alarm(self, name: str, of: list[str] | None = None, **more: Any) -> str:
        """Makes an alarm that goes off where less than one is counted; returns its ARN."""
        metrics = [
            {"Id": f"m{index}", "ReturnData": False, "MetricStat": {
                "Metric": _metric(each), "Period": 60, "Stat": "Sum"}}
            for index, each in enumerate(of or [])
        ]
        total = " + ".join(f"FILL({query['Id']}, 0)" for query in metrics)
        looks_at: dict = {**_metric(name), "Statistic": "Sum", "Period": 60}
        if metrics:
            result = {"Id": "result", "Expression": total, "ReturnData": True}
            looks_at = {"Metrics": [*metrics, result]}
        name = f"{PREFIX}-{name}"
        made = self.cloudwatch(
            "PutMetricAlarm",
            AlarmName=name,
            ComparisonOperator="LessThanThreshold",
            Threshold=1,
            EvaluationPeriods=1,
            Tags=[{"Key": PREFIX, "Value": "alarm"}],
            **looks_at,
            **more,
        )
        require(made.status == 200, made.body)
        self._removals.append(lambda: self.cloudwatch("DeleteAlarms", AlarmNames=[name]))
        return arn("cloudwatch", f"alarm:{name}")

    def alarm_state(self, alarm: str) -> str:
        name = alarm.rsplit(":", 1)[-1]
        found = self.cloudwatch("DescribeAlarms", AlarmNames=[name])
        return found.json()["MetricAlarms"][0]["StateValue"]

    def count(self, name: str) -> None:
        metric = _metric(name)
        datum = {key: metric[key] for key in ("MetricName", "Dimensions")} | {"Value": 1}
        put = self.cloudwatch("PutMetricData", Namespace=PREFIX, MetricData=[datum])
        require(put.status == 200, put.body)

    def print_metric(self, name: str) -> None:
        """Has the function print a metric."""
        printed = {
            "_aws": {"CloudWatchMetrics": [{
                "Namespace": PREFIX,
                "Dimensions": [["Of"]],
                "Metrics": [{"Name": "Count"}],
            }]},
            "Of": name,
            "Count": 1,
        }
        path = f"/2015-03-31/functions/{self.function}/invocations"
        self.root.lambda_("POST", path, {"print": json.dumps(printed)})

    def cloudwatch(self, action: str, **parameters: Any) -> Answer:
        target = f"GraniteServiceVersion20100801.{action}"
        return self.root.target("monitoring", target, parameters)

    def subscribe(self, topic: str, endpoint: str, **attributes: Any) -> None:
        parameters = {}
        for index, (key, value) in enumerate(attributes.items(), 1):
            text = value if isinstance(value, str) else json.dumps(value)
            parameters[f"Attributes.entry.{index}.key"] = key
            parameters[f"Attributes.entry.{index}.value"] = text
        made = self.root.query(
            "sns",
            "Subscribe",
            TopicArn=topic,
            Protocol="lambda" if ":lambda:" in endpoint else "sqs",
            Endpoint=endpoint,
            **parameters,
        )
        require(made.status == 200, made.body)

    def publish(self, topic: str, message: Any) -> None:
        text = json.dumps(message)
        answer = self.root.query("sns", "Publish", TopicArn=topic, Message=text)
        require(answer.status == 200, answer.body)

    def rule(self, name: str, target: dict) -> str:
        rule = f"{PREFIX}-{name}"
        pattern = json.dumps({"source": [rule]})
        self.events("PutRule", Name=rule, EventPattern=pattern)
        self.events("PutTargets", Rule=rule, Targets=[{"Id": "target", **target}])

        def remove() -> None:
            self.events("RemoveTargets", Rule=rule, Ids=["target"])
            self.events("DeleteRule", Name=rule)

        self._removals.append(remove)
        return arn("events", f"rule/{rule}")

    def fire(self, rule: str) -> None:
        entry = {
            "Source": rule.rsplit("/", 1)[-1],
            "DetailType": "check",
            "Detail": json.dumps({"rule": rule}),
        }
        self.events("PutEvents", Entries=[entry])

    def events(self, action: str, **parameters: Any) -> Answer:
        return self.root.target("events", f"AWSEvents.{action}", parameters)

    def execute(self, name: str, definition: dict) -> Any:
        """Runs a state machine as the role; returns its output."""
        name = f"{PREFIX}-{name}"
        made = self.states(
            "CreateStateMachine",
            name=name,
            definition=json.dumps(definition),
            roleArn=self.role_arn,
        )
        require(made.status == 200, made.body)
        machine = {"stateMachineArn": arn("states", f"stateMachine:{name}")}
        self._removals.append(lambda: self.states("DeleteStateMachine", **machine))
        started = self.states("StartExecution", **machine).json()
        execution = {"executionArn": started["executionArn"]}
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            found = self.states("DescribeExecution", **execution).json()
            if found["status"] != "RUNNING":
                require(found["status"] == "SUCCEEDED", f"{found}")
                return json.loads(found["output"])
            time.sleep(POLL_S)
        raise CheckFailed(f"{name} did not end")

    def states(self, action: str, **parameters: Any) -> Answer:
        return self.root.target("states", f"AWSStepFunctions.{action}", parameters)

    def permit(self, qualifier: str, service: str, source: str) -> None:
        suffix = f"?Qualifier={qualifier}" if qualifier else ""
        statement = hashlib.sha256(f"{qualifier}{source}".encode()).hexdigest()[:16]
        permission = {
            "StatementId": statement,
            "Action": "lambda:InvokeFunction",
            "Principal": service,
            "SourceArn": source,
        }
        path = f"/2015-03-31/functions/{self.function}/policy{suffix}"
        made = self.root.lambda_("POST", path, permission)
        require(made.status == 201, made.body)

    def make_role(self) -> None:
        """Makes a role that may send to queues and call the alias, not the function."""
        trust = {"Statement": []}
        self.root.query(
            "iam",
            "CreateRole",
            RoleName=self.role,
            AssumeRolePolicyDocument=json.dumps(trust),
        )
        granted = {"sqs:SendMessage": "*", "lambda:InvokeFunction": self.alias_arn}
        statements = [
            {"Effect": "Allow", "Action": action, "Resource": resource}
            for action, resource in granted.items()
        ]
        policy = {"RoleName": self.role, "PolicyName": "granted"}
        document = json.dumps({"Statement": statements})
        self.root.query("iam", "PutRolePolicy", PolicyDocument=document, **policy)
        self._removals.append(
            lambda: (
                self.root.query("iam", "DeleteRolePolicy", **policy),
                self.root.query("iam", "DeleteRole", RoleName=self.role),
            )
        )

    def make_function(self, name: str, dead_letter: str, code: bytes) -> None:
        """Makes a function with a version, and the alias `live` on it."""
        made = self.root.lambda_(
            "POST",
            "/2015-03-31/functions",
            {
                "FunctionName": name,
                "Runtime": "provided.al2023",
                "Handler": "bootstrap",
                "Role": self.role_arn,
                "Code": {"ZipFile": base64.b64encode(code).decode()},
                "DeadLetterConfig": {"TargetArn": dead_letter},
                "Publish": True,
            },
        )
        require(made.status == 201, made.body)
        path = f"/2015-03-31/functions/{name}"
        self._removals.append(lambda: self.root.lambda_("DELETE", path))
        group = {"logGroupName": f"/aws/lambda/{name}"}
        self._removals.insert(
            0, lambda: self.root.target("logs", "Logs_20140328.DeleteLogGroup", group)
        )
        alias = {"Name": "live", "FunctionVersion": "1"}
        made = self.root.lambda_("POST", f"{path}/aliases", alias)
        require(made.status == 201, made.body)

    def on_failure(self, qualifier: str, queue: str, **settings: int) -> None:
        path = f"/2019-09-25/functions/{self.function}/event-invoke-config"
        suffix = f"?Qualifier={qualifier}" if qualifier else ""
        destination = {"DestinationConfig": {"OnFailure": {"Destination": queue}}}
        made = self.root.lambda_("PUT", path + suffix, {**destination, **settings})
        require(made.status == 200, made.body)


def _metric(of: str) -> dict:
    dimensions = [{"Name": "Of", "Value": of}]
    return {"Namespace": PREFIX, "MetricName": "Count", "Dimensions": dimensions}


def bootstrap() -> str:
    """Runs the worker with this Python, whatever path it is on."""
    python = shlex.quote(sys.executable)
    return f'#!/bin/sh\nexec {python} -IS "$LAMBDA_TASK_ROOT/worker.py"\n'


def code_zip(bootstrap: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (("bootstrap", bootstrap), ("worker.py", WORKER)):
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()
