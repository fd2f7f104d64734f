"""What a user would write with boto3: sixteen threads that receive S3's
notifications, make CloudEvents of them, publish those and delete the messages.

It does what bellwire-publisher does for its plainest source: the same ids, the
same bytes and the same attributes, in batches of ten. It ends once the queue has
had no message for a while.
"""

import argparse
import hashlib
import json
import threading
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config

DATASET = "bench"
TYPE = "ml.data.arrived.v1"


def event_id(bucket, key, sequencer):
    """A hash of the change, each part with its length before it."""
    hasher = hashlib.sha256()
    for part in ("created", bucket, key, "sequencer", sequencer, ""):
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()[:32]


def event_of(record):
    s3 = record["s3"]
    bucket, s3_object = s3["bucket"]["name"], s3["object"]
    key = unquote_plus(s3_object["key"])
    sequencer = s3_object["sequencer"]
    own_id = event_id(bucket, key, sequencer)
    return {
        "specversion": "1.0",
        "id": own_id,
        "source": f"arn:aws:s3:::{bucket}",
        "type": TYPE,
        "subject": key,
        "time": record["eventTime"],
        "datacontenttype": "application/json",
        "dataset": DATASET,
        "partitionkey": DATASET,
        "sequence": sequencer,
        "correlationid": own_id,
        "hop": 0,
        "data": {
            "bucket": bucket,
            "key": key,
            "size_bytes": s3_object["size"],
            "etag": s3_object["eTag"],
            "sequencer": sequencer,
            "event_name": record["eventName"],
            "region": record["awsRegion"],
        },
    }


def entry_of(index, event):
    attributes = {
        "type": ("String", event["type"]),
        "dataset": ("String", event["dataset"]),
        "source": ("String", event["source"]),
        "hop": ("Number", str(event["hop"])),
    }
    return {
        "Id": str(index),
        "Message": json.dumps(event, separators=(",", ":"), ensure_ascii=False),
        "MessageAttributes": {
            name: {"DataType": data_type, "StringValue": value}
            for name, (data_type, value) in attributes.items()
        },
    }


class Bridge:
    def __init__(self, flags):
        session = boto3.session.Session()
        config = Config(max_pool_connections=flags.threads, retries={"mode": "standard"})
        self.sqs = session.client("sqs", config=config)
        self.sns = session.client("sns", config=config)
        self.queue_url = self.sqs.get_queue_url(QueueName=flags.queue)["QueueUrl"]
        self.topic = flags.topic
        self.idle_s = flags.idle_s

    def run(self):
        while messages := self.receive():
            self.round(messages)

    def receive(self):
        answer = self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=self.idle_s,
            VisibilityTimeout=120,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return answer.get("Messages", [])

    def round(self, messages):
        """Deletes those messages alone whose event was accepted."""
        entries = []
        for index, message in enumerate(messages):
            (record,) = json.loads(message["Body"])["Records"]
            entries.append(entry_of(index, event_of(record)))
        answer = self.sns.publish_batch(TopicArn=self.topic, PublishBatchRequestEntries=entries)
        done = [
            {"Id": accepted["Id"], "ReceiptHandle": messages[int(accepted["Id"])]["ReceiptHandle"]}
            for accepted in answer.get("Successful", [])
        ]
        if done:
            self.sqs.delete_message_batch(QueueUrl=self.queue_url, Entries=done)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", default="bench-ingest")
    parser.add_argument("--topic", default="arn:aws:sns:eu-central-1:111122223333:bench")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--idle-s", type=int, default=2)
    flags = parser.parse_args()
    bridge = Bridge(flags)
    threads = [threading.Thread(target=bridge.run) for _ in range(flags.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
