"""boto3's calls in a session that may do nothing: name, class, code, message and request id of each, a line of JSON."""

import json

import boto3
from botocore.exceptions import ClientError

CALLS = {
    "query": lambda: boto3.client("sts").get_caller_identity(),
    "query, iam": lambda: boto3.client("iam").list_users(),
    "ec2": lambda: boto3.client("ec2").describe_instances(),
    "json": lambda: boto3.client("dynamodb").list_tables(),
    "json, sqs": lambda: boto3.client("sqs").list_queues(),
    "rest-json": lambda: boto3.client("lambda").list_functions(),
    "rest-json, post": lambda: boto3.client("lambda").invoke(FunctionName="f", Payload=b"{}"),
    "cbor": lambda: boto3.client("cloudwatch").list_metrics(),
    "rest-xml, route53": lambda: boto3.client("route53").list_hosted_zones(),
    "rest-xml": lambda: boto3.client("s3").list_objects_v2(Bucket="tollgate-test"),
    "rest-xml, put": lambda: boto3.client("s3").put_object(Bucket="tollgate-test", Key="denied", Body=b"x" * 100000),
}
for name, call in CALLS.items():
    try:
        call()
    except ClientError as e:
        error = e.response["Error"]
        print(json.dumps([name, type(e).__name__, error["Code"], error["Message"], e.response["ResponseMetadata"]["RequestId"]]))
    else:
        print(json.dumps([name, None, None, None, None]))
