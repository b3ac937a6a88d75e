"""boto3 as an agent would use it. Verbs and outputs are those of every client here; see tests/README.md."""

import json
import sys

import boto3


def sts():
    print(boto3.client("sts").get_caller_identity()["Arn"])


def s3(bucket, key, source, target):
    client = boto3.client("s3")
    client.upload_file(source, bucket, key)
    client.download_file(bucket, key, target)


def keys(bucket, source, target, *names):
    client = boto3.client("s3")
    for n, name in enumerate(names):
        with open(f"{source}/{n}", "rb") as body:
            client.put_object(Bucket=bucket, Key=name, Body=body)
    for n, name in enumerate(names):
        with open(f"{target}/{n}", "wb") as out:
            out.write(client.get_object(Bucket=bucket, Key=name)["Body"].read())


def list_keys(bucket, prefix, delimiter):
    found = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter=delimiter)
    print(json.dumps([o["Key"] for o in found.get("Contents", [])]))


def dynamodb(table, value):
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    client.put_item(TableName=table, Item={"id": {"S": "1"}, "value": {"S": value}})
    print(client.get_item(TableName=table, Key={"id": {"S": "1"}})["Item"]["value"]["S"])


def ec2(group):
    client = boto3.client("ec2")
    made = client.create_security_group(GroupName=group, Description="test")
    found = client.describe_security_groups(GroupIds=[made["GroupId"]])
    print(found["SecurityGroups"][0]["GroupName"])


def sqs(queue, body):
    client = boto3.client("sqs")
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody=body)
    print(client.receive_message(QueueUrl=url, WaitTimeSeconds=1)["Messages"][0]["Body"])


VERBS = {"sts": sts, "s3": s3, "keys": keys, "list": list_keys, "dynamodb": dynamodb, "ec2": ec2, "sqs": sqs}
VERBS[sys.argv[1]](*sys.argv[2:])
