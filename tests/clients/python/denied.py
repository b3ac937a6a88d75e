"""boto3's calls in a session that may do nothing: the exception's class, code and message of each, a line of JSON."""

import json

import boto3
from botocore.exceptions import ClientError

CALLS = {
    "query": lambda: boto3.client("sts").get_caller_identity(),
    "query, iam": lambda: boto3.client("iam").list_users(),
    "ec2": lambda: boto3.client("ec2").describe_instances(),
    "json": lambda: boto3.client("dynamodb").list_tables(),
    "json, sqs": lambda: boto3.client("sqs").list_queues(),
    "rest-xml": lambda: boto3.client("s3").list_objects_v2(Bucket="tollgate-test"),
    "rest-xml, put": lambda: boto3.client("s3").put_object(Bucket="tollgate-test", Key="denied", Body=b"x" * 100000),
}
for name, call in CALLS.items():
    try:
        call()
    except ClientError as e:
        error = e.response["Error"]
        print(json.dumps([name, type(e).__name__, error["Code"], error["Message"]]))
    else:
        print(json.dumps([name, None, None, None]))
