"""What one would write in Python: a function that claims an event in DynamoDB, starts
the state machine, tells the topic and records the start; with boto3 and AWS Lambda
Powertools, on Lambda's Runtime API."""

import hashlib
import http.client
import json
import os
import time

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import SNSEvent

PLACE = f"{os.environ['AWS_REGION']}:{os.environ['BELLWIRE_ACCOUNT']}"
TOPIC = f"arn:aws:sns:{PLACE}:bench"
MACHINE = f"arn:aws:states:{PLACE}:stateMachine:bench-train"
TABLE = "bench-ledger"
TRIGGER = "train"

logger = Logger(service="bench-handler")
dynamodb = boto3.client("dynamodb")
states = boto3.client("stepfunctions")
sns = boto3.client("sns")


def start_key_of(event):
    """A hash of what makes a start, each part with its length before it."""
    hasher = hashlib.sha256()
    for part in ("bench", "", TRIGGER, event["source"], event["id"]):
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()[:32]


def context_of(event):
    return {
        "traceparent": event.get("traceparent"),
        "correlationid": event.get("correlationid") or event["id"],
        "causationid": event["id"],
        "hop": event.get("hop", 0) + 1,
    }


def claim(start, now):
    """Whether the start is ours to make: it is new, or nobody has finished it."""
    item = {
        "pk": {"S": f"start#{start['start_key']}"},
        "state": {"S": "claimed"},
        "row": {"S": json.dumps(start)},
        "claimed_at": {"S": now},
        "day_shard": {"S": f"{now[:10]}#{int(start['start_key'][:2], 16) % 4}"},
        "due_shard": {"S": f"due#{int(start['start_key'][:2], 16) % 4}"},
        "due_at": {"N": str(int(time.time()) + 240)},
        "expires_at": {"N": str(int(time.time()) + 400 * 86_400)},
        "run_arn": {"S": start["run_arn"]},
    }
    today = f"starts_{now[:10]}"
    put = {
        "TableName": TABLE,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk) OR expires_at < :now",
        "ExpressionAttributeValues": {":now": {"N": str(int(time.time()))}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    # At most so many starts a day, counted with the claim.
    count = {
        "TableName": TABLE,
        "Key": {"pk": {"S": f"guard#{TRIGGER}"}},
        "UpdateExpression": "ADD #today :one",
        "ConditionExpression": "attribute_not_exists(#today) OR #today < :max",
        "ExpressionAttributeNames": {"#today": today},
        "ExpressionAttributeValues": {":one": {"N": "1"}, ":max": {"N": "1000000000"}},
    }
    try:
        dynamodb.transact_write_items(TransactItems=[{"Put": put}, {"Update": count}])
    except dynamodb.exceptions.TransactionCanceledException as error:
        reason = error.response["CancellationReasons"][0]
        if reason["Code"] != "ConditionalCheckFailed":
            raise
        return reason["Item"]["state"]["S"] == "claimed"
    return True


def start_run(start):
    try:
        states.start_execution(
            stateMachineArn=MACHINE, name=start["name"], input=start["input"]
        )
    except states.exceptions.ExecutionAlreadyExists:
        pass


def announce(start, event, now):
    started = {
        "specversion": "1.0",
        "id": hashlib.sha256(f"started{start['start_key']}".encode()).hexdigest()[:32],
        "source": MACHINE,
        "type": "ml.training.started.v1",
        "subject": start["run_arn"],
        "time": now,
        "datacontenttype": "application/json",
        "dataset": event.get("dataset"),
        "partitionkey": event.get("dataset"),
        **start["context"],
        "data": {
            "trigger": TRIGGER,
            "start_key": start["start_key"],
            "run_arn": start["run_arn"],
            "event_id": event["id"],
        },
    }
    attributes = {
        "type": ("String", started["type"]),
        "dataset": ("String", started["dataset"]),
        "source": ("String", MACHINE),
        "hop": ("Number", str(started["hop"])),
        "traceparent": ("String", started["traceparent"]),
    }
    sns.publish(
        TopicArn=TOPIC,
        Message=json.dumps(started),
        MessageAttributes={
            name: {"DataType": data_type, "StringValue": value}
            for name, (data_type, value) in attributes.items()
        },
    )


def record(start, now):
    dynamodb.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"start#{start['start_key']}"}},
        UpdateExpression="SET #state = :started, started_at = :at, run_arn = :run, due_at = :due",
        ConditionExpression="#state = :claimed",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={
            ":started": {"S": "started"},
            ":claimed": {"S": "claimed"},
            ":at": {"S": now},
            ":run": {"S": start["run_arn"]},
            ":due": {"N": str(int(time.time()) + 3_600)},
        },
    )


def handle(payload):
    for sns_record in SNSEvent(payload).records:
        event = json.loads(sns_record.sns.message)
        key = start_key_of(event)
        name, context = f"{TRIGGER}-{key}", context_of(event)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
        run_context = {"trigger": TRIGGER, "start_key": key, "event": context}
        start = {
            "start_key": key,
            "trigger": TRIGGER,
            "stage": "training",
            "dataset": event.get("dataset"),
            "target": MACHINE,
            "name": name,
            "input": json.dumps({**event, "bellwire": run_context}),
            "run_arn": f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}",
            "context": context,
        }
        if not claim(start, now):
            logger.info("duplicate: started before", extra={"id": event["id"]})
            continue
        start_run(start)
        announce(start, event, now)
        record(start, now)
        logger.info("run started", extra={"id": event["id"], "run": start["run_arn"]})


def main():
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    base = "/2018-06-01/runtime/invocation/"
    while True:
        api.request("GET", base + "next")
        answer = api.getresponse()
        request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        payload = json.loads(answer.read())
        try:
            handle(payload)
            api.request("POST", f"{base}{request_id}/response", b"null")
        except Exception as error:
            logger.exception("not handled")
            body = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
            api.request("POST", f"{base}{request_id}/error", body)
        api.getresponse().read()


if __name__ == "__main__":
    main()
