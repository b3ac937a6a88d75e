// The JavaScript SDK as an agent would use it. Verbs and outputs are those of every client here; see tests/README.md.
import { createReadStream, createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";

const verbs = {
  async sts() {
    const { STSClient, GetCallerIdentityCommand } = await import("@aws-sdk/client-sts");
    console.log((await new STSClient().send(new GetCallerIdentityCommand())).Arn);
  },

  async s3(bucket, key, from, to) {
    const { S3Client, GetObjectCommand } = await import("@aws-sdk/client-s3");
    const { Upload } = await import("@aws-sdk/lib-storage");
    const client = new S3Client();
    await new Upload({ client, params: { Bucket: bucket, Key: key, Body: createReadStream(from) } }).done();
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    await pipeline(Body, createWriteStream(to));
  },

  async keys(bucket, from, to, ...keys) {
    const { S3Client, GetObjectCommand, PutObjectCommand } = await import("@aws-sdk/client-s3");
    const client = new S3Client();
    for (const [n, Key] of keys.entries()) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: await readFile(`${from}/${n}`) }));
    }
    for (const [n, Key] of keys.entries()) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
      await pipeline(Body, createWriteStream(`${to}/${n}`));
    }
  },

  async list(bucket, prefix, delimiter) {
    const { S3Client, ListObjectsV2Command } = await import("@aws-sdk/client-s3");
    const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, Delimiter: delimiter });
    const { Contents } = await new S3Client().send(command);
    console.log(JSON.stringify((Contents ?? []).map((o) => o.Key)));
  },

  async dynamodb(table, value) {
    const { DynamoDBClient, CreateTableCommand, PutItemCommand, GetItemCommand } = await import(
      "@aws-sdk/client-dynamodb"
    );
    const client = new DynamoDBClient();
    await client.send(
      new CreateTableCommand({
        TableName: table,
        BillingMode: "PAY_PER_REQUEST",
        AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
        KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
      }),
    );
    await client.send(new PutItemCommand({ TableName: table, Item: { id: { S: "1" }, value: { S: value } } }));
    const { Item } = await client.send(new GetItemCommand({ TableName: table, Key: { id: { S: "1" } } }));
    console.log(Item.value.S);
  },

  async ec2(group) {
    const { EC2Client, CreateSecurityGroupCommand, DescribeSecurityGroupsCommand } = await import(
      "@aws-sdk/client-ec2"
    );
    const client = new EC2Client();
    const { GroupId } = await client.send(new CreateSecurityGroupCommand({ GroupName: group, Description: "test" }));
    const { SecurityGroups } = await client.send(new DescribeSecurityGroupsCommand({ GroupIds: [GroupId] }));
    console.log(SecurityGroups[0].GroupName);
  },

  async sqs(queue, body) {
    const { SQSClient, CreateQueueCommand, SendMessageCommand, ReceiveMessageCommand } = await import(
      "@aws-sdk/client-sqs"
    );
    const client = new SQSClient();
    const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName: queue }));
    await client.send(new SendMessageCommand({ QueueUrl, MessageBody: body }));
    const { Messages } = await client.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 1 }));
    console.log(Messages[0].Body);
  },
};

const [verb, ...rest] = process.argv.slice(2);
await verbs[verb](...rest);
