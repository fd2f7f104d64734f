"""What a Step Functions task asks on AWS before it calls a function.

Each of these wraps one function of ministack's, as the patches of patches.py do.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ministack.core.responses import get_account_id, get_region, new_uuid
from ministack.services import stepfunctions

from authorisation import role_decision, session_arn

ACTION = "lambda:InvokeFunction"
# AWS names a session at random.
SESSION = "states"


class Caller(NamedTuple):
    """As whom a task calls a function, and the token of the callback it waits for."""

    role_arn: str
    token: str = ""


NOBODY = Caller("")

# A task's threads run in copies of its execution's context.
current_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar(
    "bellwire_caller", default=NOBODY
)


@contextlib.contextmanager
def _calling_as(caller: Caller) -> Iterator[None]:
    before = current_caller.set(caller)
    try:
        yield
    finally:
        current_caller.reset(before)


def role_of_execution(run: Callable) -> Callable:
    """AWS runs an execution to its end with the role that its state machine had when it
    started."""

    def wrapper(execution_arn: str) -> None:
        execution = stepfunctions._executions.get(execution_arn) or {}
        started = (execution.get("events") or [{}])[0]
        details = started.get("executionStartedEventDetails") or {}
        with _calling_as(Caller(details.get("roleArn", ""))):
            run(execution_arn)

    return wrapper


def role_of_test(test: Callable) -> Callable:
    """AWS tests a state with the role that is named for the test."""

    def wrapper(request: dict) -> Any:
        with _calling_as(Caller(request.get("roleArn") or "")):
            return test(request)

    return wrapper


def token_of_callback(invoke: Callable) -> Callable:
    """Not of AWS: a refused call below is told which callback will never come."""

    def wrapper(resource: str, event: Any, token: str, state: dict) -> Any:
        with _calling_as(current_caller.get()._replace(token=token)):
            return invoke(resource, event, token, state)

    return wrapper


def task_to_lambda(call: Callable) -> Callable:
    """AWS calls a function only if the state machine's role may invoke exactly the ARN
    that the task names; if not, the task fails, and waits for no callback."""

    def wrapper(reference: str, event: Any) -> Any:
        caller = current_caller.get()
        function_arn = _function_arn(reference)
        decision = role_decision(caller.role_arn, SESSION, ACTION, function_arn)
        if decision == "Allow":
            return call(reference, event)
        cause = _cause(caller.role_arn, function_arn, decision)
        # So AWS names it, whether a function's ARN or lambda:invoke is the resource.
        error = "Lambda.AWSLambdaException"
        if caller.token:
            # ministack drops what is raised here, and goes on waiting.
            stepfunctions._send_task_failure(
                {"taskToken": caller.token, "error": error, "cause": cause}
            )
        raise stepfunctions._ExecutionError(error, cause)

    return wrapper


def _function_arn(reference: str) -> str:
    """A task may name a function, and a qualifier, in place of their ARN."""
    if str(reference).startswith("arn:"):
        return reference
    return f"arn:aws:lambda:{get_region()}:{get_account_id()}:function:{reference}"


def _cause(role_arn: str, function_arn: str, decision: str) -> str:
    why = f"because no identity-based policy allows the {ACTION} action"
    if decision == "Deny":
        why = "with an explicit deny in an identity-based policy"
    return (
        f"User: {session_arn(role_arn, SESSION)} is not authorized to perform: "
        f"{ACTION} on resource: {function_arn} {why} "
        "(Service: AWSLambda; Status Code: 403; Error Code: AccessDeniedException; "
        f"Request ID: {new_uuid()}; Proxy: null)"
    )
