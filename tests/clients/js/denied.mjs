// The JavaScript SDK's calls in a session that may do nothing: name, class, message and request id of each, and how often
// it was tried; a line of JSON.
import { AwsSmithyRpcV2CborProtocol } from "@aws-sdk/core/protocols";
import { CloudWatchClient, ListMetricsCommand } from "@aws-sdk/client-cloudwatch";
import { DynamoDBClient, ListTablesCommand } from "@aws-sdk/client-dynamodb";
import { DescribeInstancesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { InvokeCommand, LambdaClient, ListFunctionsCommand } from "@aws-sdk/client-lambda";
import { ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { ListQueuesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const calls = {
  query: () => new STSClient().send(new GetCallerIdentityCommand()),
  ec2: () => new EC2Client().send(new DescribeInstancesCommand()),
  json: () => new DynamoDBClient().send(new ListTablesCommand()),
  "json, sqs": () => new SQSClient().send(new ListQueuesCommand()),
  "json, cloudwatch": () => new CloudWatchClient().send(new ListMetricsCommand()),
  "rest-json": () => new LambdaClient().send(new ListFunctionsCommand()),
  "rest-json, post": () => new LambdaClient().send(new InvokeCommand({ FunctionName: "f", Payload: "{}" })),
  // The protocol is a setting of every client.
  cbor: () => new CloudWatchClient({ protocol: AwsSmithyRpcV2CborProtocol }).send(new ListMetricsCommand()),
  "rest-xml": () => new S3Client().send(new ListObjectsV2Command({ Bucket: "tollgate-test" })),
  "rest-xml, put": () =>
    new S3Client().send(new PutObjectCommand({ Bucket: "tollgate-test", Key: "denied", Body: "x".repeat(100000) })),
};
for (const [name, call] of Object.entries(calls)) {
  try {
    await call();
    console.log(JSON.stringify([name, null, null, null, null]));
  } catch (e) {
    console.log(JSON.stringify([name, e.name, e.message, e.$metadata?.requestId, `${e.$metadata?.attempts}`]));
  }
}
