"""What makes ministack agree with AWS where Bellwire depends on it.

Each patch replaces one function of ministack, and its docstring says what AWS does;
those of authorisation, of keys, of alarms and of Step Functions' tasks are in files of
their own.
The functions are private ones, so the launcher accepts one version of ministack only,
and selfcheck.py asserts every behaviour on the running server at each start.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.concurrency import esm_wake
from ministack.core.responses import (
    get_account_id,
    new_uuid,
    request_scope,
)
from ministack.services import (
    cloudwatch,
    eventbridge,
    lambda_svc,
    sns,
    sqs,
    stepfunctions,
    tagging,
)

import authorisation
import encryption
import step_functions
import watching
from authorisation import service_allowed

logger = logging.getLogger("bellwire")

# AWS waits one minute, then two.
RETRY_BASE_S = 0.1
THROTTLED_RETRY_S = 0.1
# A queue bounds what runs at once; AWS's bound is the account's concurrency.
ASYNC_CONCURRENCY = 32


class PatchError(Exception):
    """A function that a patch replaces is not where it was."""


class Refusal(NamedTuple):
    """Why a service could not hand an event to its target."""

    code: str
    message: str


class Rule(NamedTuple):
    """The EventBridge rule and target on whose behalf an event is delivered."""

    arn: str
    target: dict


current_rule: contextvars.ContextVar[Rule | None] = contextvars.ContextVar(
    "bellwire_rule", default=None
)

async_slots = threading.BoundedSemaphore(ASYNC_CONCURRENCY)


def apply(log: authorisation.CallLog, own_variables: list[str]) -> None:
    """Applies every patch; `own_variables` are the server's, none of a function's."""
    authorisation.record_in(log)
    for each in (logger, lambda_svc.logger):
        each.addFilter(lambda _: get_account_id() != log.own_account)
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True
    # What has no request behind it, such as a schedule, is AWS's own call: TLS.
    _replace(
        iam_evaluator,
        "_request_origin",
        contextvars.ContextVar("ministack_request_origin", default=("127.0.0.1", True)),
    )
    _wrap(app, "pin_request_origin", authorisation.loopback_is_tls)
    _wrap(iam_actions, "extract_iam_action", authorisation.single_actions)
    _wrap(iam_evaluator, "enforce", authorisation.recorded)
    _wrap(iam_evaluator, "resolve_principal", encryption.remembered)
    _wrap(sns, "_get_topic", encryption.topic_of_publisher)
    _wrap(sns, "topic_policy_allows", encryption.topic_for_service)
    _replace(lambda_svc, "invoke_async_with_retry", invoke_async)
    _replace(lambda_svc, "_reserved_concurrency", reserved_concurrency)
    _wrap(lambda_svc, "_execute_function_provided_warm", log_of_failed_start)
    _wrap(
        lambda_svc,
        "_provided_worker_env",
        lambda build: function_environment(build, own_variables),
    )
    _replace(sns, "_deliver_to_lambda", sns_to_lambda)
    _wrap(sns, "_deliver_to_sqs", sns_to_sqs)
    _replace(sns, "_policy_matches", policy_matches)
    _wrap(eventbridge, "_invoke_target", remember_rule)
    _replace(eventbridge, "_dispatch_to_lambda", rule_to_lambda)
    _wrap(eventbridge, "_dispatch_to_sqs", rule_to_sqs)
    _wrap(eventbridge, "_dispatch_to_sns", rule_to_sns)
    _wrap(cloudwatch, "_put_metric_alarm", watching.alarm_of_expression)
    _wrap(cloudwatch, "_describe_alarms", watching.evaluated_first)
    _replace(cloudwatch, "_evaluate_alarm", watching.evaluate)
    _wrap(cloudwatch, "_list_dashboards", watching.dashboards_with_times)
    _wrap(lambda_svc, "_emit_lambda_logs", watching.metrics_in_log)
    _wrap(sns, "_subscribe", watching.pending_mail)
    _wrap(sns, "_list_subscriptions", watching.pending_unnamed)
    _wrap(sns, "_list_subscriptions_by_topic", watching.pending_unnamed)
    tagging._COLLECTORS["cloudwatch"] = watching.tagged_alarms
    _wrap(stepfunctions, "_run_execution", step_functions.role_of_execution)
    _wrap(stepfunctions, "_test_state", step_functions.role_of_test)
    _wrap(stepfunctions, "_invoke_with_callback", step_functions.token_of_callback)
    _wrap(stepfunctions, "_call_lambda", step_functions.task_to_lambda)


def _replace(module: Any, name: str, value: Any) -> None:
    if not hasattr(module, name):
        raise PatchError(f"{module.__name__}.{name} does not exist")
    setattr(module, name, value)


def _wrap(module: Any, name: str, wrapper: Callable[[Callable], Callable]) -> None:
    _replace(module, name, wrapper(getattr(module, name, None)))


# Lambda's asynchronous invocation


def admit(
    function_arn: str, service: str, source_arn: str
) -> tuple[dict | None, Refusal | None]:
    """The function to invoke for a service, or why it may not.

    AWS evaluates the permission of exactly the ARN that is invoked: the alias's, not
    that of the version behind it nor of the unqualified function.
    """
    function, config, name = lambda_svc._get_func_record_for_ref(function_arn)
    base, _, _ = lambda_svc._get_base_func_record_for_ref(function_arn)
    if not function or not config or not base:
        return None, Refusal("ResourceNotFound", f"no function {name}: {function_arn}")
    if not service_allowed(
        base["policy"], service, "lambda:InvokeFunction", function_arn, source_arn
    ):
        message = f"{service} may not invoke {function_arn} for {source_arn}"
        return None, Refusal("AccessDenied", message)
    invoked = {**config, "FunctionArn": function_arn}
    return lambda_svc._execution_record_for_config(function, invoked), None


def reserved_concurrency(function: dict | None, config: dict) -> int | None:
    """AWS shares a function's reserved concurrency among its versions and aliases."""
    base = lambda_svc._functions.get(config.get("FunctionName", "")) or function or {}
    reserved = base.get("concurrency")
    if isinstance(reserved, dict):
        reserved = reserved.get("ReservedConcurrentExecutions")
    return None if reserved is None else int(reserved)


def function_environment(build: Callable, own_variables: list[str]) -> Callable:
    """AWS gives a function the variables of its configuration and of the runtime."""

    def wrapper(config: dict, code_dir: str, port: int) -> dict:
        variables = build(config, code_dir, port)
        configured = lambda_svc._runtime_env_vars(config)
        for name in own_variables:
            if name not in configured:
                variables.pop(name, None)
        group = f"/aws/lambda/{config.get('FunctionName')}"
        variables.setdefault("AWS_LAMBDA_LOG_GROUP_NAME", group)
        return variables

    return wrapper


def log_of_failed_start(execute: Callable) -> Callable:
    """AWS keeps in the log what a runtime prints before it fails to start."""

    def wrapper(function: dict, event: Any, request_id: str) -> dict:
        result = execute(function, event, request_id)
        if result.get("error") and not result.get("log"):
            body = result.get("body")
            result["log"] = (
                body.get("errorMessage", "") if isinstance(body, dict) else ""
            )
        return result

    return wrapper


def invoke_async(function: dict, event: Any) -> None:
    """AWS queues the event, and answers before the function runs."""
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_run_async, function, event),
        daemon=True,
        name="lambda-async",
    )
    thread.start()


def _run_async(function: dict, event: Any) -> None:
    """AWS reads the retries and the destinations of exactly the invoked qualifier."""
    config = function.get("config") or function
    account, region = lambda_svc._account_region_from_function_config(config)
    with request_scope(account, region):
        settings = event_invoke_config(config["FunctionArn"])
        failure = _attempt(function, event, settings)
        if failure is not None:
            _settle_failure(config, event, settings, failure)


def event_invoke_config(function_arn: str) -> dict:
    name, qualifier = lambda_svc._resolve_name_and_qualifier(function_arn)
    base = lambda_svc._functions.get(name) or {}
    if qualifier in (None, "$LATEST"):
        unqualified = lambda_svc._event_invoke_config(base, None)
        return unqualified or lambda_svc._event_invoke_config(base, "$LATEST") or {}
    return lambda_svc._event_invoke_config(base, qualifier) or {}


def _attempt(function: dict, event: Any, settings: dict) -> dict | None:
    """AWS retries a failing function twice, and a throttled one until the event is
    too old; None is success."""
    retries = settings.get("MaximumRetryAttempts")
    retries = 2 if retries is None else int(retries)
    age_limit_s = int(settings.get("MaximumEventAgeInSeconds") or 21600)
    started = time.monotonic()
    invocations = 0
    while True:
        with async_slots:
            result = lambda_svc._execute_function(function, event)
        if not result.get("error"):
            return None
        if result.get("throttle"):
            delay_s = THROTTLED_RETRY_S
        else:
            invocations += 1
            delay_s = RETRY_BASE_S * 2 ** (invocations - 1)
        failure = {"result": result, "invocations": invocations}
        if invocations > retries:
            return {**failure, "condition": "RetriesExhausted"}
        if time.monotonic() - started + delay_s > age_limit_s:
            return {**failure, "condition": "EventAgeExceeded"}
        time.sleep(delay_s)


def _settle_failure(config: dict, event: Any, settings: dict, failure: dict) -> None:
    """AWS sends an invocation record to the on-failure destination, and the bare event,
    with the error in attributes, to the function's dead-letter queue."""
    request_id = new_uuid()
    destinations = settings.get("DestinationConfig") or {}
    destination = (destinations.get("OnFailure") or {}).get("Destination")
    if destination:
        body = json.dumps(_invocation_record(config, event, failure, request_id))
        _send_as_role(config, destination, body, {})
    dead_letter = (config.get("DeadLetterConfig") or {}).get("TargetArn")
    if dead_letter:
        error = failure["result"].get("body")
        message = error.get("errorMessage", "") if isinstance(error, dict) else error
        attributes = {
            "RequestID": _attribute("String", request_id),
            "ErrorCode": _attribute("Number", "200"),
            "ErrorMessage": _attribute("String", str(message or "")[:1024]),
        }
        _send_as_role(config, dead_letter, json.dumps(event), attributes)
    if not destination and not dead_letter:
        logger.warning(
            "event of %s dropped: %s", config["FunctionArn"], failure["condition"]
        )


def _invocation_record(
    config: dict, event: Any, failure: dict, request_id: str
) -> dict:
    arn = config["FunctionArn"]
    if len(arn.split(":")) == 7:
        arn += ":$LATEST"
    result = failure["result"]
    return {
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "requestContext": {
            "requestId": request_id,
            "functionArn": arn,
            "condition": failure["condition"],
            "approximateInvokeCount": failure["invocations"],
        },
        "requestPayload": event,
        "responseContext": {
            "statusCode": 200,
            "executedVersion": config.get("Version", "$LATEST"),
            "functionError": result.get("function_error") or "Unhandled",
        },
        "responsePayload": result.get("body"),
    }


def _attribute(data_type: str, value: str) -> dict:
    return {"DataType": data_type, "StringValue": value}


def _send_as_role(config: dict, target_arn: str, body: str, attributes: dict) -> None:
    """AWS sends to a destination with the permissions of the function's own role."""
    to_queue = ":sqs:" in target_arn
    action = "sqs:SendMessage" if to_queue else "sns:Publish"
    role = config.get("Role", "")
    decision = authorisation.role_decision(role, "lambda", action, target_arn)
    if decision != "Allow":
        logger.warning("%s may not %s %s", role, action, target_arn)
    elif to_queue:
        put_on_queue(target_arn, body, attributes)
    else:
        sns.publish_internal(target_arn, body, message_attributes=attributes)


def put_on_queue(queue_arn: str, body: str, attributes: dict) -> None:
    queue = sqs._queue_by_arn(queue_arn)
    if queue is None:
        logger.warning("no queue %s", queue_arn)
        return
    now = time.time()
    message = {
        "id": new_uuid(),
        "body": body,
        "md5": hashlib.md5(body.encode()).hexdigest(),
        "message_attributes": attributes,
        "md5_attrs": sqs._md5_msg_attrs(attributes),
        "receipt_handle": None,
        "sent_at": now,
        "visible_at": now + sqs.queue_delay(queue),
        "receive_count": 0,
    }
    sqs._ensure_msg_fields(message)
    queue["messages"].append(message)
    esm_wake.set()


# SNS's deliveries


def sns_to_lambda(
    endpoint: str,
    envelope: str,
    topic_arn: str,
    subscription_arn: str,
    message_id: str,
    message: str,
    attributes: dict,
) -> None:
    """AWS invokes the subscribed ARN asynchronously, if its policy admits the topic; a
    refused invocation goes to the subscription's dead-letter queue."""
    function, refusal = admit(endpoint, "sns.amazonaws.com", topic_arn)
    if refusal is not None:
        subscription = sns._find_subscription(topic_arn, subscription_arn) or {}
        redrive(subscription, topic_arn, envelope, refusal)
        return
    notification = _lambda_notification(envelope, message, attributes)
    notification.setdefault("MessageId", message_id)
    notification.setdefault("TopicArn", topic_arn)
    event = {
        "Records": [
            {
                "EventVersion": "1.0",
                "EventSubscriptionArn": subscription_arn,
                "EventSource": "aws:sns",
                "Sns": notification,
            }
        ]
    }
    lambda_svc.invoke_async_with_retry(function, event)


def _lambda_notification(envelope: str, message: str, attributes: dict) -> dict:
    """AWS spells two keys differently for Lambda, and always has the optional ones."""
    notification = json.loads(envelope)
    notification["SigningCertUrl"] = notification.pop("SigningCertURL", "")
    notification["UnsubscribeUrl"] = notification.pop("UnsubscribeURL", "")
    notification.setdefault("Subject", None)
    notification["Message"] = message
    notification["MessageAttributes"] = {
        name: {
            "Type": value.get("DataType", "String"),
            "Value": value.get("StringValue") or value.get("BinaryValue") or "",
        }
        for name, value in attributes.items()
    }
    return notification


def sns_to_sqs(deliver: Callable) -> Callable:
    """AWS sends what a queue refuses to the subscription's dead-letter queue."""

    def wrapper(
        endpoint: str,
        envelope: str,
        raw: bool,
        message: str,
        message_group_id: str = "",
        message_dedup_id: str = "",
        message_attributes: dict | None = None,
        topic_arn: str = "",
    ) -> None:
        refusal = _queue_refusal(endpoint, "sns.amazonaws.com", topic_arn)
        if refusal is not None:
            topic = sns._topic_by_arn_any_scope(topic_arn) or {}
            for subscription in topic.get("subscriptions", []):
                if subscription["endpoint"] == endpoint:
                    body = message if raw else envelope
                    redrive(subscription, topic_arn, body, refusal)
            return
        deliver(
            endpoint,
            envelope,
            raw,
            message,
            message_group_id,
            message_dedup_id,
            message_attributes,
            topic_arn,
        )

    return wrapper


def _queue_refusal(queue_arn: str, service: str, source_arn: str) -> Refusal | None:
    queue = sqs._queue_by_arn(queue_arn)
    if queue is None:
        return Refusal("ResourceNotFound", f"no queue {queue_arn}")
    policy = queue["attributes"].get("Policy")
    if service_allowed(policy, service, "sqs:SendMessage", queue_arn, source_arn):
        return None
    message = f"{service} may not send to {queue_arn} for {source_arn}"
    return Refusal("AccessDenied", message)


def redrive(subscription: dict, topic_arn: str, body: str, refusal: Refusal) -> None:
    """AWS does not retry a client error: a subscription's redrive policy, or gone."""
    policy = subscription.get("attributes", {}).get("RedrivePolicy") or "{}"
    dead_letter = json.loads(policy).get("deadLetterTargetArn")
    logger.warning(
        "delivery of %s refused, %s: %s",
        topic_arn,
        f"redriven to {dead_letter}" if dead_letter else "dropped",
        refusal.message,
    )
    if not dead_letter:
        return
    second = _queue_refusal(dead_letter, "sns.amazonaws.com", topic_arn)
    if second is None:
        put_on_queue(dead_letter, body, {})
    else:
        logger.warning("redrive of %s refused: %s", topic_arn, second.message)


def policy_matches(policy: dict, lookup: Callable, nested: bool = False) -> bool:
    """AWS matches a body filter inside an array if one of its objects matches."""
    for key, rules in policy.items():
        if key == "$or" and sns._is_or_operator(rules):
            if not any(policy_matches(member, lookup, nested) for member in rules):
                return False
        elif nested and isinstance(rules, dict):
            _, values, _ = lookup(key)
            if not any(
                policy_matches(rules, sns._body_lookup(child), nested)
                for child in _objects(values)
            ):
                return False
        elif not sns._key_matches(
            rules if isinstance(rules, list) else [rules], *lookup(key)
        ):
            return False
    return True


def _objects(values: list) -> list[dict]:
    """The objects of an array, and of the arrays in it."""
    found: list[dict] = []
    for value in values:
        if isinstance(value, dict):
            found.append(value)
        elif isinstance(value, list):
            found.extend(_objects(value))
    return found


# EventBridge's deliveries


def remember_rule(invoke_target: Callable) -> Callable:
    """Not of AWS: the deliveries below are told on which rule's behalf they are."""

    def wrapper(target: dict, event: dict, rule: dict, view: Any = None) -> None:
        token = current_rule.set(Rule((rule or {}).get("Arn", ""), target))
        try:
            invoke_target(target, event, rule, view)
        finally:
            current_rule.reset(token)

    return wrapper


def rule_to_lambda(arn: str, payload: str) -> None:
    """AWS invokes exactly the target's ARN asynchronously, if its policy admits the
    rule."""
    rule = current_rule.get() or Rule("", {})
    function, refusal = admit(arn, "events.amazonaws.com", rule.arn)
    if refusal is not None:
        _rule_dead_letter(rule, payload, refusal)
        return
    lambda_svc.invoke_async_with_retry(function, json.loads(payload))


def rule_to_sqs(dispatch: Callable) -> Callable:
    """AWS sends to a queue only if the queue's policy admits the rule."""

    def wrapper(spec: Any, payload: str, parameters: dict | None = None) -> None:
        rule = current_rule.get() or Rule("", {})
        refusal = _queue_refusal(str(spec), "events.amazonaws.com", rule.arn)
        if refusal is None:
            dispatch(spec, payload, parameters)
        else:
            _rule_dead_letter(rule, payload, refusal)

    return wrapper


def rule_to_sns(dispatch: Callable) -> Callable:
    """AWS publishes to a topic only if the topic's policy names EventBridge."""

    def wrapper(arn: str, payload: str) -> None:
        rule = current_rule.get() or Rule("", {})
        topic = sns._topic_by_arn_any_scope(arn) or {}
        policy = topic.get("attributes", {}).get("Policy")
        service = "events.amazonaws.com"
        if service_allowed(policy, service, "sns:Publish", arn, rule.arn):
            dispatch(arn, payload)
        else:
            message = f"{service} may not publish to {arn} for {rule.arn}"
            _rule_dead_letter(rule, payload, Refusal("AccessDenied", message))

    return wrapper


def _rule_dead_letter(rule: Rule, payload: str, refusal: Refusal) -> None:
    """AWS sends what a target refuses to the target's dead-letter queue."""
    dead_letter = (rule.target.get("DeadLetterConfig") or {}).get("Arn")
    logger.warning(
        "rule %s: %s (%s)", rule.arn, refusal.message, dead_letter or "dropped"
    )
    if not dead_letter:
        return
    second = _queue_refusal(dead_letter, "events.amazonaws.com", rule.arn)
    if second is not None:
        logger.warning("rule %s: %s", rule.arn, second.message)
        return
    not_found = refusal.code == "ResourceNotFound"
    attributes = {
        "RULE_ARN": _attribute("String", rule.arn),
        "TARGET_ARN": _attribute("String", rule.target.get("Arn", "")),
        "ERROR_CODE": _attribute(
            "String", "RESOURCE_NOT_FOUND" if not_found else "NO_PERMISSIONS"
        ),
        "ERROR_MESSAGE": _attribute("String", refusal.message),
    }
    put_on_queue(dead_letter, payload, attributes)
