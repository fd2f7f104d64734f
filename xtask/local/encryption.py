"""Topics that are encrypted with a KMS key: who may publish through it.

Stock ministack keeps the key's name and asks nobody.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import kms, sns

import authorisation

# What whoever publishes does with the key, by SNS.
USES = ("kms:GenerateDataKey", "kms:Decrypt")
# How the aliases of keys begin that AWS manages.
ALIAS_OF_AWS = "alias/aws/"

caller: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "bellwire_caller", default=None
)


def remembered(resolve: Callable) -> Callable:
    """Not of AWS: who calls, for what is asked in the caller's name later on."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        principal = resolve(*args, **kwargs)
        caller.set(principal)
        return principal

    return wrapper


def topic_of_publisher(get_topic: Callable) -> Callable:
    """AWS lets only those publish to an encrypted topic who may use its key: their own
    policies and the key's say so, with the service and the aliases as conditions."""

    def wrapper(topic_arn: str, action: str | None = None) -> tuple:
        topic, error = get_topic(topic_arn, action)
        if error is None and action == "sns:Publish":
            error = _refusal(topic)
        return (topic, None) if error is None else (None, error)

    return wrapper


def topic_for_service(allows: Callable) -> Callable:
    """AWS lets a service publish to an encrypted topic if the key's policy admits it:
    the policy of a key that AWS manages admits none."""

    def wrapper(
        topic_arn: str, service: str, source_arn: str, source_account: str
    ) -> bool:
        if not allows(topic_arn, service, source_arn, source_account):
            return False
        topic = sns._topic_by_arn_any_scope(topic_arn)
        name = _key_name(topic)
        if not name:
            return True
        key = None if _is_of_aws(name) else kms._resolve_key(name)
        return key is not None and all(
            authorisation.service_allowed(
                key["Policy"], service, use, key["Arn"], source_arn
            )
            for use in USES
        )

    return wrapper


def _key_name(topic: dict | None) -> str:
    return ((topic or {}).get("attributes") or {}).get("KmsMasterKeyId") or ""


def _is_of_aws(name: str) -> bool:
    return name.rsplit(":", 1)[-1].startswith(ALIAS_OF_AWS)


def _refusal(topic: dict) -> tuple | None:
    """Why the caller may not publish through the topic's key, as SNS says it."""
    name, principal = _key_name(topic), caller.get()
    if not name or _is_of_aws(name) or principal is None:
        return None
    key = kms._resolve_key(name)
    if key is None:
        return sns._error("KMSNotFound", f"Key {name} not found", 400)
    if not key["Enabled"]:
        return sns._error("KMSDisabled", f"{key['Arn']} is disabled", 400)
    for use in USES:
        if not _may_use(principal, use, key):
            message = f"User: {principal.arn} is not authorized to perform: {use}"
            return sns._error("KMSAccessDenied", f"{message} on {key['Arn']}", 400)
    return None


def _may_use(principal: Any, use: str, key: dict) -> bool:
    if principal.policies is None:
        return True
    aliases = [
        alias.rsplit(":", 1)[-1]
        for alias, key_id in kms._aliases.items()
        if key_id == key["KeyId"]
    ]
    context = iam_evaluator.EvalContext(
        principal_arn=principal.arn,
        principal_type=principal.type,
        principal_account=principal.account,
        action=use,
        resource_arn=key["Arn"],
        region=get_region(),
        service_context={
            "kms:viaservice": f"sns.{get_region()}.amazonaws.com",
            "kms:resourcealiases": aliases,
        },
        principal_keys=principal.keys,
    )
    own = iam_evaluator.evaluate(context, principal.policies, *principal.limits)
    decided = iam_evaluator.combine_resource_policy(
        own,
        context,
        key["Policy"] if isinstance(key["Policy"], str) else json.dumps(key["Policy"]),
        get_account_id(),
        required=True,
        limits=principal.limits,
    )
    authorisation.call_log.write(principal.arn, use, key["Arn"], decided.decision)
    return decided.decision == "Allow"
