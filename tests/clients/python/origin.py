"""An endpoint that hands out credentials and takes only requests that are signed with them.

For what no independent server offers: SSO's and Cognito's unsigned operations, S3 Express sessions, and answers that are
compressed or carry checksums. Answers are AWS's, as its API reference has them; signatures are recomputed by botocore.
Usage: origin.py PORT HELD_ID HELD_SECRET READY_FILE
"""

import gzip
import hashlib
import json
import sys
import time
import zlib
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PORT, HELD_ID, HELD_SECRET, READY = int(sys.argv[1]), *sys.argv[2:5]
ID, SECRET, TOKEN = "ASIAREALREALREALREAL", "real/secret+of/the/origin+real/secret+re", "real//token+of/the/origin==" * 8
KEYS = {HELD_ID: (HELD_SECRET, None), ID: (SECRET, TOKEN)}
END = int(time.time()) + 900


def signer(request, body):
    """Id of the key whose signature a request carries, if it is right."""
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return None
    fields = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
    key, _, region, service, _ = fields["Credential"].split("/")
    secret, token = KEYS.get(key, (None, None))
    if secret is None or request.headers.get("x-amz-security-token") != token:
        return None
    wanted = fields["SignedHeaders"].split(";")
    headers = {name: request.headers[name] for name in wanted}
    ours = AWSRequest(request.command, "https://" + request.headers["Host"] + request.path, data=body, headers=headers)
    ours.context["timestamp"] = request.headers["x-amz-date"]
    auth = (S3SigV4Auth if service.startswith("s3") else SigV4Auth)(Credentials(key, secret), service, region)
    canonical = auth.canonical_request(ours)
    digest = hashlib.sha256(body).hexdigest()
    if request.headers.get("x-amz-content-sha256") not in (digest, "UNSIGNED-PAYLOAD"):
        return None
    return key if auth.signature(auth.string_to_sign(ours, canonical), ours) == fields["Signature"] else None


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, kind, text, compressed = self.answer(body)
        data = gzip.compress(text.encode()) if compressed else text.encode()
        self.send_response(status)
        for name, value in [
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("x-amz-crc32", str(zlib.crc32(data))),
            ("Content-MD5", b64encode(hashlib.md5(data).digest()).decode()),
            ("ETag", '"' + hashlib.md5(data).hexdigest() + '"'),
            ("x-amzn-RequestId", "1"),
            *([("Content-Encoding", "gzip")] if compressed else []),
        ]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_GET

    def answer(self, body):
        host, key = self.headers["Host"], signer(self, body)
        unsigned = "Authorization" not in self.headers and "x-amz-security-token" not in self.headers
        refused = 403, "application/json", json.dumps({"__type": "AccessDeniedException", "message": "not signed as it should be"}), False
        if host.startswith("portal.sso."):
            if not unsigned or self.headers.get("x-amz-sso_bearer_token") != "a-token-of-sso":
                return refused
            keys = {"accessKeyId": ID, "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": END * 1000}
            return 200, "application/json", json.dumps({"roleCredentials": keys}), False
        if host.startswith("cognito-identity."):
            if not unsigned:
                return refused
            keys = {"AccessKeyId": ID, "SecretKey": SECRET, "SessionToken": TOKEN, "Expiration": float(END)}
            which = json.loads(body)["IdentityId"]
            if which.endswith("partial"):
                del keys["SessionToken"]
            return 200, "application/x-amz-json-1.1", json.dumps({"IdentityId": which, "Credentials": keys}), which.endswith("gzip")
        if host.startswith("sts.eu-west-1."):
            if not unsigned or b"Action=AssumeRoleWithSAML&" not in body:
                return refused
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(END))
            return 200, "text/xml", (
                '<AssumeRoleWithSAMLResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithSAMLResult>'
                f"<Credentials><AccessKeyId>{ID}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
                f"<SessionToken>{TOKEN}</SessionToken><Expiration>{end}</Expiration></Credentials><AssumedRoleUser>"
                "<Arn>arn:aws:sts::999988887777:assumed-role/saml/bob</Arn><AssumedRoleId>AROA:bob</AssumedRoleId></AssumedRoleUser>"
                "</AssumeRoleWithSAMLResult></AssumeRoleWithSAMLResponse>"
            ), False
        if ".s3express-" in host:
            if key != HELD_ID or "session" not in self.path:
                return 403, "application/xml", "<Error><Code>AccessDenied</Code><Message>no</Message></Error>", False
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(END))
            return 200, "application/xml", (
                '<?xml version="1.0" encoding="UTF-8"?>\n<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Credentials><SessionToken>{TOKEN}</SessionToken><SecretAccessKey>{SECRET}</SecretAccessKey>"
                f"<AccessKeyId>{ID}</AccessKeyId><Expiration>{end}</Expiration></Credentials></CreateSessionResult>"
            ), False
        if host.startswith("kms.") and key == ID:
            return 200, "application/x-amz-json-1.1", json.dumps({"Keys": [{"KeyId": "of-the-origin"}], "Truncated": False}), False
        return refused

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Endpoint)
open(READY, "w").close()
server.serve_forever()
