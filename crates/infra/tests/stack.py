"""Makes a stack of a template, whose functions' zips are in a folder, and waits for it.

    stack.py TEMPLATE FOLDER

Region and endpoint come from the environment.
"""

import json
import pathlib
import sys
import time

import boto3
from botocore.config import Config

DEADLINE_S = 120
POLL_S = 0.1


def main(template, folder):
    config = Config(s3={"addressing_style": "path"})
    s3 = boto3.client("s3", config=config)
    s3.create_bucket(Bucket="code")
    for file in pathlib.Path(folder).rglob("*.zip"):
        s3.upload_file(str(file), "code", str(file.relative_to(folder)))
    stacks = boto3.client("cloudformation")
    stacks.create_stack(
        StackName="bellwire",
        # Without its indentation it may be given in the call itself.
        TemplateBody=json.dumps(json.loads(pathlib.Path(template).read_text())),
        Parameters=[{"ParameterKey": "CodeBucket", "ParameterValue": "code"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    deadline = time.monotonic() + DEADLINE_S
    while True:
        stack = stacks.describe_stacks(StackName="bellwire")["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    if stack["StackStatus"] == "CREATE_COMPLETE":
        return
    for event in stacks.describe_stack_events(StackName="bellwire")["StackEvents"]:
        if event["ResourceStatus"].endswith("FAILED"):
            print(event["LogicalResourceId"], event.get("ResourceStatusReason"), file=sys.stderr)
    sys.exit(f"the stack is {stack['StackStatus']}: {stack.get('StackStatusReason')}")


main(*sys.argv[1:])
