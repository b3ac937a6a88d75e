// The JavaScript SDK's calls in a session that may do nothing: name and message of each exception, a line of JSON.
import { AwsSmithyRpcV2CborProtocol } from "@aws-sdk/core/protocols";
import { DynamoDBClient, ListTablesCommand } from "@aws-sdk/client-dynamodb";
import { DescribeInstancesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { ListQueuesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { AccessDeniedException, CreateOAuth2TokenWithIAMCommand, SigninClient } from "@aws-sdk/nested-clients/signin";

const calls = {
  query: () => new STSClient().send(new GetCallerIdentityCommand()),
  ec2: () => new EC2Client().send(new DescribeInstancesCommand()),
  json: () => new DynamoDBClient().send(new ListTablesCommand()),
  "json, sqs": () => new SQSClient().send(new ListQueuesCommand()),
  // The one signed REST and JSON operation of the clients that come with those above.
  "rest-json": () =>
    new SigninClient({ credentials: defaultProvider() }).send(
      new CreateOAuth2TokenWithIAMCommand({ grantType: "client_credentials", resource: "x" }),
    ),
  // The protocol is a setting of every client: the service's own errors come by it too.
  cbor: () => new DynamoDBClient({ protocol: AwsSmithyRpcV2CborProtocol }).send(new ListTablesCommand()),
  "rest-xml": () => new S3Client().send(new ListObjectsV2Command({ Bucket: "tollgate-test" })),
  "rest-xml, put": () =>
    new S3Client().send(new PutObjectCommand({ Bucket: "tollgate-test", Key: "denied", Body: "x".repeat(100000) })),
};
for (const [name, call] of Object.entries(calls)) {
  try {
    await call();
    console.log(JSON.stringify([name, null, null]));
  } catch (e) {
    // The only one of these services that has a class for it.
    if (name === "rest-json" && !(e instanceof AccessDeniedException)) throw e;
    console.log(JSON.stringify([name, e.name, e.message]));
  }
}
