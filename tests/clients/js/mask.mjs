// What the JavaScript SDK makes of masked answers: prints one line of JSON. BUCKET KEY TABLE
import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";

const [Bucket, Key, TableName] = process.argv.slice(2);
const { Body } = await new S3Client().send(new GetObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" }));
const object = JSON.parse(await Body.transformToString());
const { Item } = await new DynamoDBClient().send(new GetItemCommand({ TableName, Key: { id: { S: "1" } } }));
console.log(JSON.stringify({ object, item: Item }));
