"""Who may call what on the local AWS, and the record of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region

# What AWS authorises a batch call as.
BATCH_ACTIONS = {
    "sns:PublishBatch": "sns:Publish",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}

LOOPBACK = ("127.0.0.1", "::1")


class CallLog:
    """Appends each authorised or refused call to a file, one JSON object a line.

    The calls of the self-check's own account stay in memory, for the self-check.
    """

    def __init__(self, path: str, own_account: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(path, flags, 0o600) if path else -1
        self.own_account = own_account
        self.own: list[dict] = []

    def write(self, principal: str, action: str, resource: str, decision: str) -> None:
        call = {
            "principal": principal,
            "role": role_of(principal),
            "action": action,
            "resource": resource,
            "decision": decision,
            "time_ms": int(time.time() * 1000),
        }
        if get_account_id() == self.own_account:
            self.own.append(call)
        elif self._descriptor >= 0:
            # One write of an append-only file: lines of several threads never mix.
            os.write(self._descriptor, json.dumps(call).encode() + b"\n")


call_log = CallLog("", "")


def record_in(log: CallLog) -> None:
    """Every call from now on, and every delivery, is recorded in `log`."""
    global call_log
    call_log = log


def role_of(principal: str) -> str:
    """The role behind an assumed-role session, or nothing."""
    _, found, session = principal.partition(":assumed-role/")
    return session.split("/", 1)[0] if found else ""


def recorded(enforce: Callable) -> Callable:
    """Not of AWS: who called what, on what, and what was decided."""

    def wrapper(
        access_key_id: str,
        iam_action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict | None = None,
    ) -> Any:
        denied = enforce(
            access_key_id, iam_action, service, region, resource_arn, service_context
        )
        caller = iam_evaluator.resolve_principal(access_key_id or "", get_account_id())
        principal = getattr(caller, "arn", "")
        refused = getattr(denied, "decision", "Unauthenticated")
        call_log.write(
            principal, iam_action, resource_arn, refused if denied else "Allow"
        )
        return denied

    return wrapper


def single_actions(extract: Callable) -> Callable:
    """AWS authorises a batch call as the action that it repeats."""

    def wrapper(*args: Any, **kwargs: Any) -> str | None:
        action = extract(*args, **kwargs)
        return BATCH_ACTIONS.get(action, action)

    return wrapper


def loopback_is_tls(pin: Callable) -> Callable:
    """AWS is reached over TLS: a denial of plain HTTP does not meet a local call."""

    def wrapper(source_ip: str, secure_transport: bool) -> None:
        pin(source_ip, secure_transport or source_ip in LOOPBACK)

    return wrapper


def service_allowed(
    policy: str | dict | None,
    service: str,
    action: str,
    resource_arn: str,
    source_arn: str,
) -> bool:
    """Whether a resource's policy lets a service act on it for `source_arn`."""
    context = iam_evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource_arn,
        region=get_region(),
        service_context={
            "aws:sourcearn": source_arn,
            "aws:sourceaccount": get_account_id(),
        },
    )
    result = iam_evaluator.evaluate_resource_policy(policy, context, service=service)
    call_log.write(service, action, resource_arn, result.decision)
    return result.decision == "Allow"


def role_decision(role_arn: str, session: str, action: str, resource_arn: str) -> str:
    """What a role's own policies say: Allow, Deny or ImplicitDeny."""
    context = iam_evaluator.EvalContext(
        principal_arn=role_arn,
        principal_type="AssumedRole",
        principal_account=get_account_id(),
        action=action,
        resource_arn=resource_arn,
        region=get_region(),
    )
    role = _role_name(role_arn)
    policies = iam_evaluator._gather_role_policies(role, get_account_id())
    decision = iam_evaluator.evaluate(context, policies).decision
    call_log.write(session_arn(role_arn, session), action, resource_arn, decision)
    return decision


def session_arn(role_arn: str, session: str) -> str:
    """The principal that a service is when it acts as a role."""
    role = _role_name(role_arn)
    return f"arn:aws:sts::{get_account_id()}:assumed-role/{role}/{session}"


def _role_name(role_arn: str) -> str:
    return role_arn.rsplit("/", 1)[-1]
