// The JavaScript SDK where it signs in rarer modes.
import { createReadStream, readFileSync, writeFileSync } from "node:fs";

const verbs = {
  // A multi-region access point, which takes SigV4A alone: a buffer, a stream, and back.
  async mrap(arn, from, to) {
    await import("@aws-sdk/signature-v4a");
    const { S3Client, GetObjectCommand, PutObjectCommand } = await import("@aws-sdk/client-s3");
    const client = new S3Client();
    const put = (Key, Body, more) => client.send(new PutObjectCommand({ Bucket: arn, Key, Body, ...more }));
    await put("a key+with=signs", readFileSync(from));
    const size = readFileSync(from).length;
    await put("streamed", createReadStream(from), { ContentLength: size });
    for (const [n, Key] of ["a key+with=signs", "streamed"].entries()) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: arn, Key }));
      writeFileSync(to + n, await Body.transformToByteArray());
    }
    console.log("done");
  },

  // Both ways at once, over HTTP/2: what is said next depends on what was heard.
  async converse(model) {
    const { BedrockRuntimeClient, InvokeModelWithBidirectionalStreamCommand } = await import(
      "@aws-sdk/client-bedrock-runtime"
    );
    const encode = (text) => ({ chunk: { bytes: new TextEncoder().encode(text) } });
    let hear;
    const heard = () => new Promise((resolve) => (hear = resolve));
    const body = (async function* () {
      yield encode("one");
      for (const _ of [1, 2]) {
        const text = await heard();
        yield encode(text + "+");
      }
    })();
    const client = new BedrockRuntimeClient();
    const answer = await client.send(new InvokeModelWithBidirectionalStreamCommand({ modelId: model, body }));
    for await (const event of answer.body) {
      const text = new TextDecoder().decode(event.chunk.bytes);
      console.log(text);
      // The generator may still be on its way to the point where it waits.
      while (!hear && text.split("+").length < 3) await new Promise((r) => setTimeout(r, 5));
      hear?.(text);
      hear = undefined;
    }
    console.log("end");
  },
};

const [verb, ...args] = process.argv.slice(2);
await verbs[verb](...args);
