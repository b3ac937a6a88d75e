// A certified OpenID provider (npm `oidc-provider`) for the identity tests, and the forger that attacks its name.
//
//   node provider.mjs MODULES PORT
//
// MODULES is the folder with `oidc-provider` in it. Listens on loopback alone. Takes one JSON object a line on its
// standard input and answers each with one line:
//   {"do": "issue", "client": "alice", "resource": "https://tollgate.example/3600"}
//       what the provider itself issues by client credentials: a JWT access token, whose audience and life are those
//       of the resource (`https://<audience>.example/<seconds>`)
//   {"do": "sign", "header": {…}, "claims": {…}, "with": "current|stranger|public-as-secret|nothing"}
//       whatever an attacker would like to have signed; `current` is the provider's own key
//   {"do": "rotate", "keep": true|false}
//       a new key signs from now on; the old ones stay published, or go
// Ends with its standard input.
import * as crypto from 'node:crypto';
import * as http from 'node:http';
import * as readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const [modules, port] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`).href);
// Its notices would look like answers.
console.info = console.error;
const issuer = `http://127.0.0.1:${port}`;

// Subjects are clients: that is what client credentials stand for. Groups are a property of each.
const clients = Object.entries({ alice: ['s3-readers'], bob: [], carol: ['operators'] }).map(([id, groups]) => ({
  client_id: id,
  client_secret: `secret of ${id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  groups,
}));

const makeKey = () => {
  const jwk = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  return { ...jwk, kid: crypto.randomUUID(), use: 'sig', alg: 'RS256' };
};

let keys = [makeKey()];
let handler;
const start = () => {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    scopes: ['api'],
    extraClientMetadata: { properties: ['groups'] },
    extraTokenClaims: (_, token) => ({ groups: clients.find((c) => c.client_id === token.clientId).groups }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => {
          const url = new URL(resource);
          return {
            scope: 'api',
            audience: url.hostname.split('.')[0],
            accessTokenTTL: Number(url.pathname.slice(1)),
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: 'RS256', kid: keys[0].kid } },
          };
        },
      },
    },
  });
  provider.on('server_error', (_, error) => console.error(error));
  handler = provider.callback();
};
start();

const server = http.createServer((request, response) => handler(request, response));
await new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve));

async function issue({ client, resource }) {
  const form = new URLSearchParams({ grant_type: 'client_credentials', scope: 'api', resource });
  const basic = [client, `secret of ${client}`].map(encodeURIComponent).join(':').replaceAll('%20', '+');
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(basic).toString('base64')}` },
    body: form,
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(JSON.stringify(body));
  return body.access_token;
}

const base64 = (value) => Buffer.from(value).toString('base64url');

function sign({ header, claims, with: how }) {
  const full = { alg: 'RS256', typ: 'at+jwt', kid: keys[0].kid, ...header };
  const text = `${base64(JSON.stringify(full))}.${base64(JSON.stringify({ iss: issuer, ...claims }))}`;
  const rsa = (jwk) => crypto.sign('sha256', Buffer.from(text), crypto.createPrivateKey({ key: jwk, format: 'jwk' }));
  const signature = {
    current: () => rsa(keys[0]),
    stranger: () => rsa(makeKey()),
    // Key confusion: everybody knows the public key, so as an HMAC secret it is worth nothing.
    'public-as-secret': () => {
      const pem = crypto.createPublicKey({ key: keys[0], format: 'jwk' }).export({ type: 'spki', format: 'pem' });
      return crypto.createHmac('sha256', pem).update(text).digest();
    },
    nothing: () => Buffer.alloc(0),
  }[how]();
  return `${text}.${base64(signature)}`;
}

function rotate({ keep }) {
  keys = [makeKey(), ...(keep ? keys : [])];
  start();
  return keys[0].kid;
}

console.log(JSON.stringify({ answer: issuer }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await { issue, sign, rotate }[order.do](order) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
process.exit(0);
