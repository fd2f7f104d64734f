"""Checks each behaviour that the patches give ministack, on the running server.

It works in an AWS account of its own, so that it meets nobody's resources, and removes
what it made. Each check says in its docstring what AWS does.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ministack.core.iam_evaluator import EvalContext

from bench import (
    ACCOUNT,
    CRASHING,
    PREFIX,
    WAIT_S,
    Bench,
    CheckFailed,
    Client,
    arn,
    bootstrap,
    code_zip,
    require,
)

STALL_S = 0.040
# Above what a refused call takes, and below what a check may take.
CALLBACK_S = 2

LAMBDA_INVOKE = "arn:aws:states:::lambda:invoke"
# The error of a task whose function was called, and of one whose was not.
CALLED = "Checked"
REFUSED = "Lambda.AWSLambdaException"


class Result(NamedTuple):
    name: str
    passed: bool
    detail: str
    elapsed_ms: int


class Checks:
    """One method a behaviour; `run` calls them all at once."""

    def __init__(self, bench: Bench, call_log: Any) -> None:
        self._bench = bench
        self._call_log = call_log
        self._dead = bench.queue("function-dead")
        self._alias_failed = bench.queue("alias-failed")
        self._failed = bench.queue("failed")
        bench.make_role()
        code = code_zip(bootstrap())
        bench.make_function(bench.function, self._dead, code)
        bench.make_function(bench.throttled, self._dead, code)
        bench.make_function(bench.crashing, self._dead, code_zip(CRASHING))
        bench.on_failure("live", self._alias_failed, MaximumRetryAttempts=0)
        bench.on_failure("", self._failed)
        self._function = bench.function_arn
        self._alias = bench.alias_arn

    def all(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "retries", self.retries
        yield "alias", self.alias_settings
        yield "permission", self.permission
        yield "queue_redrive", self.queue_redrive
        yield "rule_to_alias", self.rule_to_alias
        yield "rule_permission", self.rule_permission
        yield "rule_to_queue", self.rule_to_queue
        yield "rule_to_topic", self.rule_to_topic
        yield "task_permission", self.task_permission
        yield "callback_permission", self.callback_permission
        yield "state_test_permission", self.state_test_permission
        yield "batch_actions", self.batch_actions
        yield "topic_key", self.topic_key
        yield "topic_key_of_aws", self.topic_key_of_aws
        yield "array_filter", self.array_filter
        yield "alarm", self.alarm
        yield "alarm_of_sum", self.alarm_of_sum
        yield "metrics_in_log", self.metrics_in_log
        yield "pending_mail", self.pending_mail
        yield "tls", self.tls
        yield "no_stall", self.no_stall
        yield "concurrency", self.concurrency
        yield "log_of_failed_start", self.log_of_failed_start
        yield "process_tree", self.process_tree
        yield "environment", self.environment

    def retries(self) -> None:
        """SNS's event to a failing function is tried three times, then settled."""
        topic = self._bench.topic("retries")
        self._bench.permit("", "sns.amazonaws.com", topic)
        self._bench.subscribe(topic, self._function)
        self._bench.publish(topic, {"check": "retries"})
        record = json.loads(self._bench.receive(self._failed)["Body"])
        context = record["requestContext"]
        require(context["approximateInvokeCount"] == 3, f"{context}")
        require(context["condition"] == "RetriesExhausted", f"{context}")
        event = record["requestPayload"]["Records"][0]
        require(event["EventSource"] == "aws:sns", f"{event}")

    def alias_settings(self) -> None:
        """An alias has retries and a destination of its own, and the dead-letter queue
        gets the bare event with the error in attributes."""
        topic = self._bench.topic("alias")
        self._bench.permit("live", "sns.amazonaws.com", topic)
        self._bench.subscribe(topic, self._alias)
        self._bench.publish(topic, {"check": "alias"})
        self._expect_alias_failure("aws:sns")
        message = self._bench.receive(self._dead)
        require("requestContext" not in json.loads(message["Body"]), message["Body"])
        require("ErrorMessage" in message["MessageAttributes"], f"{message}")

    def _expect_alias_failure(self, source: str) -> None:
        """Two checks share the alias's queue: leaves what is the other's."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            record = json.loads(self._bench.receive(self._alias_failed)["Body"])
            payload = record["requestPayload"]
            found = payload.get("Records", [{}])[0].get("EventSource", "rule")
            if found != source:
                self._bench.sqs(
                    "SendMessage",
                    QueueUrl=self._bench.url(self._alias_failed),
                    MessageBody=json.dumps(record),
                )
                continue
            context = record["requestContext"]
            require(context["approximateInvokeCount"] == 1, f"{context}")
            require(context["functionArn"] == self._alias, f"{context}")
            return
        raise CheckFailed(f"nothing of {source} arrived")

    def permission(self) -> None:
        """A permission of the function is none of its alias: the subscription's
        dead-letter queue gets what SNS may not deliver."""
        topic = self._bench.topic("permission")
        dead = self._bench.queue("subscription-dead", [_from("sns", topic)])
        self._bench.permit("", "sns.amazonaws.com", topic)
        redrive = {"deadLetterTargetArn": dead}
        self._bench.subscribe(topic, self._alias, RedrivePolicy=redrive)
        self._bench.publish(topic, {"check": "permission"})
        body = json.loads(self._bench.receive(dead)["Body"])
        require(body["TopicArn"] == topic, f"{body}")

    def queue_redrive(self) -> None:
        """What a queue refuses goes to the subscription's dead-letter queue."""
        topic = self._bench.topic("queue")
        closed = self._bench.queue("closed", [])
        dead = self._bench.queue("queue-dead", [_from("sns", topic)])
        redrive = {"deadLetterTargetArn": dead}
        self._bench.subscribe(topic, closed, RedrivePolicy=redrive)
        self._bench.publish(topic, {"check": "queue"})
        self._bench.receive(dead)

    def rule_to_alias(self) -> None:
        """EventBridge invokes an alias that its rule may invoke."""
        rule = self._bench.rule("alias", {"Arn": self._alias})
        self._bench.permit("live", "events.amazonaws.com", rule)
        self._bench.fire(rule)
        self._expect_alias_failure("rule")

    def rule_permission(self) -> None:
        """EventBridge may not invoke what does not admit the rule."""
        dead = self._bench.queue("rule-dead", [_from("events", arn("events", "*"))])
        target = {"Arn": self._alias, "DeadLetterConfig": {"Arn": dead}}
        self._bench.fire(self._bench.rule("refused", target))
        message = self._bench.receive(dead)
        code = message["MessageAttributes"]["ERROR_CODE"]["StringValue"]
        require(code == "NO_PERMISSIONS", code)

    def rule_to_queue(self) -> None:
        """EventBridge may not send to a queue that does not admit the rule."""
        dead = self._bench.queue("send-dead", [_from("events", arn("events", "*"))])
        closed = self._bench.queue("rule-closed", [])
        target = {"Arn": closed, "DeadLetterConfig": {"Arn": dead}}
        self._bench.fire(self._bench.rule("queue", target))
        self._bench.receive(dead)

    def rule_to_topic(self) -> None:
        """A topic's default policy does not admit EventBridge."""
        topic = self._bench.topic("rule")
        dead = self._bench.queue("topic-dead", [_from("events", arn("events", "*"))])
        target = {"Arn": topic, "DeadLetterConfig": {"Arn": dead}}
        self._bench.fire(self._bench.rule("topic", target))
        self._bench.receive(dead)

    def task_permission(self) -> None:
        """A task calls a function as the state machine's role: what it may call is the
        ARN that it names, an alias's or the function's."""
        errors = self._bench.execute(
            "task",
            _parallel(
                _task(self._alias),
                _task(self._function),
                _task(LAMBDA_INVOKE, Parameters={"FunctionName": self._alias}),
                _task(
                    LAMBDA_INVOKE,
                    Parameters={"FunctionName": self._bench.function},
                    TimeoutSeconds=WAIT_S,
                ),
            ),
        )
        names = [error["Error"] for error in errors]
        require(names == [CALLED, REFUSED, CALLED, REFUSED], f"{errors}")
        for refused in (errors[1], errors[3]):
            resource = f"lambda:InvokeFunction on resource: {self._function} because"
            require(resource in refused["Cause"], f"{refused}")
        principal = f":assumed-role/{self._bench.role}/states"
        self._expect_recorded(principal, "lambda:InvokeFunction", "Allow")
        self._expect_recorded(principal, "lambda:InvokeFunction", "ImplicitDeny")

    def callback_permission(self) -> None:
        """A task does not wait for the callback of a function that it may not call."""
        waiting = _task(
            f"{LAMBDA_INVOKE}.waitForTaskToken",
            Parameters={"FunctionName": self._function},
            TimeoutSeconds=CALLBACK_S,
        )
        errors = self._bench.execute("callback", _parallel(waiting))
        require(errors[0]["Error"] == REFUSED, f"{errors}")

    def state_test_permission(self) -> None:
        """A state is tested as the role that is named for the test."""
        for resource, expected in ((self._alias, CALLED), (self._function, REFUSED)):
            tested = self._bench.states(
                "TestState",
                definition=json.dumps(
                    {"Type": "Task", "Resource": resource, "End": True}
                ),
                roleArn=self._bench.role_arn,
            ).json()
            require(tested.get("error") == expected, f"{tested}")

    def batch_actions(self) -> None:
        """A batch needs the permission of its single action, and no other."""
        topic = self._bench.topic("batch")
        queue = self._bench.queue("batch")
        with _user(self._bench, ["sqs:SendMessage", "sns:Publish"]) as user:
            entries = [{"Id": "1", "MessageBody": "check"}]
            batch = {"QueueUrl": self._bench.url(queue), "Entries": entries}
            sent = user.target("sqs", "AmazonSQS.SendMessageBatch", batch)
            require(sent.status == 200, sent.body)
            member = "PublishBatchRequestEntries.member.1"
            entry = {f"{member}.Id": "1", f"{member}.Message": "check"}
            sent = user.query("sns", "PublishBatch", TopicArn=topic, **entry)
            require(sent.status == 200, sent.body)
            refused = user.target("sqs", "AmazonSQS.ReceiveMessage", batch)
            require(refused.status in (400, 403), f"allowed: {refused.body}")
        self._expect_recorded(f":user/{PREFIX}", "sqs:SendMessage", "Allow")
        self._expect_recorded(f":user/{PREFIX}", "sqs:ReceiveMessage", "ImplicitDeny")

    def alarm(self) -> None:
        """An alarm looks at the metric of its dimensions alone, counts no data as it says,
        and is found by its tags."""
        silent = self._bench.alarm("silent", TreatMissingData="breaching")
        require(self._bench.alarm_state(silent) == "ALARM", "no data is not breaching")
        self._bench.count("other")
        require(self._bench.alarm_state(silent) == "ALARM", "any dimension counts")
        self._bench.count("silent")
        require(self._bench.alarm_state(silent) == "OK", "data does not count")
        found = self._bench.root.target(
            "tagging",
            "ResourceGroupsTaggingAPI_20170126.GetResources",
            {"TagFilters": [{"Key": PREFIX, "Values": ["alarm"]}]},
        )
        require(silent in found.body, found.body)

    def alarm_of_sum(self) -> None:
        """An alarm on the sum of metrics keeps them, and one without data is nothing."""
        alarm = self._bench.alarm("sum", of=["sum-a", "sum-b"])
        require(self._bench.alarm_state(alarm) == "ALARM", "no data is not nothing")
        self._bench.count("sum-b")
        require(self._bench.alarm_state(alarm) == "OK", "the sum does not count")

    def metrics_in_log(self) -> None:
        """What a function prints in the embedded metric format is a metric."""
        alarm = self._bench.alarm("printed")
        self._bench.print_metric("printed")
        require(self._bench.alarm_state(alarm) == "OK", "nothing was taken")

    def pending_mail(self) -> None:
        """An e-mail address is listed without an ARN until it confirms."""
        topic = self._bench.topic("mail")
        self._bench.root.query(
            "sns", "Subscribe", TopicArn=topic, Protocol="email", Endpoint="a@example.com"
        )
        listed = self._bench.root.query("sns", "ListSubscriptionsByTopic", TopicArn=topic)
        require(listed.field("SubscriptionArn") == "PendingConfirmation", listed.body)

    def topic_key(self) -> None:
        """To publish through a topic's key takes its use: of a caller by the policies of
        both, of S3 by the key's, for the bucket that it names."""
        bucket = self._bench.bucket("key")
        key = self._bench.key("key", _key_admits(arn("s3", "another")))
        topic = self._bench.topic("key", [_publishes(bucket)], KmsMasterKeyId=key)
        refused = self._bench.notify(bucket, topic)
        require(refused.status == 400, f"S3 is admitted: {refused.body}")
        self._bench.key_policy(key, _key_admits(bucket))
        admitted = self._bench.notify(bucket, topic)
        require(admitted.status == 200, admitted.body)
        with _user(self._bench, ["sns:Publish"], "key") as user:
            sent = user.query("sns", "Publish", TopicArn=topic, Message="check")
            require("KMSAccessDenied" in sent.body, sent.body)
        use = ["sns:Publish", "kms:Decrypt", "kms:GenerateDataKey"]
        with _user(self._bench, use, "key") as user:
            sent = user.query("sns", "Publish", TopicArn=topic, Message="check")
            require(sent.status == 200, sent.body)
        self._expect_recorded(f":user/{PREFIX}-key", "kms:GenerateDataKey", "Allow")

    def topic_key_of_aws(self) -> None:
        """The key that AWS manages for SNS admits everybody of the account, and no
        service."""
        bucket = self._bench.bucket("key-of-aws")
        topic = self._bench.topic(
            "key-of-aws", [_publishes(bucket)], KmsMasterKeyId="alias/aws/sns"
        )
        refused = self._bench.notify(bucket, topic)
        require(refused.status == 400, f"S3 is admitted: {refused.body}")
        with _user(self._bench, ["sns:Publish"], "key-of-aws") as user:
            sent = user.query("sns", "Publish", TopicArn=topic, Message="check")
            require(sent.status == 200, sent.body)

    def _expect_recorded(self, principal: str, action: str, decision: str) -> None:
        """Not of AWS: the calls and their decisions are on record."""
        found = any(
            principal in call["principal"]
            and (call["action"], call["decision"]) == (action, decision)
            for call in self._call_log.own
        )
        require(found, f"not recorded: {action} {decision}")

    def array_filter(self) -> None:
        """A body filter matches inside an array if one of its objects matches."""
        topic = self._bench.topic("filter")
        queue = self._bench.queue("filter", [_from("sns", topic)])
        self._bench.subscribe(
            topic,
            queue,
            FilterPolicyScope="MessageBody",
            FilterPolicy={"items": {"name": ["x"], "size": [{"numeric": [">", 1]}]}},
            RawMessageDelivery="true",
        )
        self._bench.publish(topic, {"items": [{"name": "x", "size": 1}]})
        wanted = {"items": [{"name": "y", "size": 2}, {"name": "x", "size": 2}]}
        self._bench.publish(topic, wanted)
        body = json.loads(self._bench.receive(queue)["Body"])
        require(body == wanted, f"let through: {body}")

    def tls(self) -> None:
        """A denial of plain HTTP does not meet a call over loopback."""
        denial = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        url = self._bench.url(self._bench.queue("tls", [denial]))
        sent = self._bench.sqs("SendMessage", QueueUrl=url, MessageBody="check")
        require(sent.status == 200, sent.body)
        # What no request pinned, such as a schedule's delivery.
        own = contextvars.Context().run(EvalContext, "*", "Service", "", "", "*", "")
        require(own.secure_transport, "a delivery without a request is plain HTTP")

    def no_stall(self) -> None:
        """A warm invocation does not wait for a delayed acknowledgement."""
        fastest_s = WAIT_S
        for _ in range(30):
            started = time.monotonic()
            self._invoke()
            fastest_s = min(fastest_s, time.monotonic() - started)
            if fastest_s < STALL_S:
                return
        raise CheckFailed(f"the fastest of 30 took {fastest_s * 1000:.0f} ms")

    def concurrency(self) -> None:
        """A function's reserved concurrency bounds its aliases too."""
        name = self._bench.throttled
        self._bench.root.lambda_(
            "PUT",
            f"/2017-10-31/functions/{name}/concurrency",
            {"ReservedConcurrentExecutions": 0},
        )
        path = f"/2015-03-31/functions/{name}/invocations?Qualifier=live"
        answer = self._bench.root.lambda_("POST", path, {})
        require(answer.status == 429, f"{answer.status}: {answer.body}")

    def log_of_failed_start(self) -> None:
        """What a runtime prints before it fails to start is in the function's log."""
        name = self._bench.crashing
        path = f"/2015-03-31/functions/{name}/invocations"
        self._bench.root.lambda_("POST", path, {})
        group = {"logGroupName": f"/aws/lambda/{name}"}
        log = self._bench.root.target("logs", "Logs_20140328.FilterLogEvents", group)
        require("said before the end" in log.body, log.body)

    def process_tree(self) -> None:
        """Not of AWS: a worker is in the process group that a stop ends."""
        group = self._invoke()["group"]
        require(group == os.getpgid(0), f"{group}, not {os.getpgid(0)}")

    def environment(self) -> None:
        """A function sees its own variables and the runtime's, none of the server's."""
        variables = self._invoke()["variables"]
        require("LAMBDA_TASK_ROOT" in variables, f"{variables}")
        require("LOG_LEVEL" not in variables, f"{variables}")

    def _invoke(self) -> dict:
        path = f"/2015-03-31/functions/{self._bench.function}/invocations"
        error = self._bench.root.lambda_("POST", path, {}).json()
        return json.loads(error["errorMessage"])


def _task(resource: str, **fields: Any) -> dict:
    """A branch whose output is the error of its task, which always fails."""
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    task = {"Type": "Task", "Resource": resource, "Catch": catch, **fields}
    return {
        "StartAt": "Call",
        "States": {
            "Call": {**task, "Next": "Caught"},
            "Caught": {"Type": "Pass", "End": True},
        },
    }


def _parallel(*branches: dict) -> dict:
    all_of_them = {"Type": "Parallel", "Branches": list(branches), "End": True}
    return {"StartAt": "All", "States": {"All": all_of_them}}


def _from(service: str, source: str) -> dict:
    return {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
        "Condition": {"ArnLike": {"aws:SourceArn": source}},
    }


def _publishes(bucket: str) -> dict:
    return {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": "*",
        "Condition": {"ArnLike": {"aws:SourceArn": bucket}},
    }


def _key_admits(bucket: str) -> list[dict]:
    """The account, and S3 for one bucket."""
    root = f"arn:aws:iam::{ACCOUNT}:root"
    account = {"AWS": root}
    own = {"Effect": "Allow", "Principal": account, "Action": "kms:*", "Resource": "*"}
    use = ["kms:Decrypt", "kms:GenerateDataKey"]
    return [own, {**_publishes(bucket), "Action": use}]


@contextlib.contextmanager
def _user(bench: Bench, actions: list[str], name: str = "user") -> Iterator[Client]:
    """A user that may do nothing but `actions`."""
    name = {"UserName": f"{PREFIX}-{name}"}
    policy = {"PolicyName": "allow", **name}
    bench.root.query("iam", "CreateUser", **name)
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    document = json.dumps({"Statement": [statement]})
    bench.root.query("iam", "PutUserPolicy", PolicyDocument=document, **policy)
    made = bench.root.query("iam", "CreateAccessKey", **name)
    key = made.field("AccessKeyId")
    try:
        yield Client(bench.port, key, made.field("SecretAccessKey"))
    finally:
        bench.root.query("iam", "DeleteAccessKey", AccessKeyId=key, **name)
        bench.root.query("iam", "DeleteUserPolicy", **policy)
        bench.root.query("iam", "DeleteUser", **name)


def run(bench: Bench, call_log: Any, report: Callable[[Result], None]) -> list[Result]:
    """Runs every check, all at once; a failure names the check."""
    try:
        checks = list(Checks(bench, call_log).all())
    except Exception as error:  # noqa: BLE001
        result = Result("set_up", False, f"{type(error).__name__}: {error}", 0)
        report(result)
        return [result]

    def one(check: tuple[str, Callable[[], None]]) -> Result:
        name, call = check
        started = time.monotonic()
        detail = ""
        try:
            call()
        except Exception as error:  # noqa: BLE001
            detail = f"{type(error).__name__}: {error}"
        elapsed_ms = int((time.monotonic() - started) * 1000)
        result = Result(name, not detail, detail, elapsed_ms)
        report(result)
        return result

    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(one, checks))
