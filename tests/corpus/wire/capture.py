"""Captures what each client puts on the wire, into CLIENT.jsonl beside this file: python3 tests/corpus/wire/capture.py

Runs itself in a network and a mount namespace of its own, as root, with the clients of `cargo xtask tools` and the daemon's
Rust client of `cargo build`. A TLS server answers for AWS there, a metadata service hands out one fixed placeholder; nothing
leaves the namespace. Each line is a request as it came: method, host, target, headers, body (base64, or its SHA-256 and length
if it is large), and what it is.
"""

import base64
import hashlib
import http.server
import json
import os
import shutil
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../.."))
TOOLS = os.path.realpath(os.path.join(ROOT, ".tools"))
CLIENTS = os.path.join(ROOT, "tests/clients")
AWS, IMDS = "127.0.0.2", "169.254.169.254"
BUCKET = "tollgate-test"
NAMES = [f"{s}.us-east-1.amazonaws.com" for s in
         "sts ec2 dynamodb sqs lambda monitoring kms glue s3".split()]
NAMES += [f"{BUCKET}.s3.us-east-1.amazonaws.com", f"{BUCKET}.s3.amazonaws.com", "s3.amazonaws.com", "iam.amazonaws.com", "route53.amazonaws.com", "sts.amazonaws.com"]
KEYS = {"Code": "Success", "LastUpdated": "2026-01-02T03:04:05Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAWIRECORPUS000000",
        "SecretAccessKey": "wire-corpus-secret", "Token": "wire-corpus-token", "Expiration": "2036-01-02T03:04:05Z"}
HARD = ["with a space", "plus+plus", "100%25 and %2F", "中文/😀", "quotes'\"(round)", "a//b"]

seen = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return out
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-amzn-requestid", "r")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def any(self):
        body = self.body()
        if self.server.server_address[0] == IMDS:
            return self.metadata()
        row = {"method": self.command, "target": self.path, "headers": self.headers.items()}
        if len(body) <= 4096:
            row["body"] = base64.b64encode(body).decode()
        else:
            row |= {"sha256": hashlib.sha256(body).hexdigest(), "length": len(body)}
        seen.append(row)
        if ".s3." not in "." + self.headers["host"]:
            return self.denial()
        if self.command == "GET" and "list-type" in self.path:
            return self.answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")
        self.answer(200, b"x" if self.command == "GET" else b"", ETag='"0"')

    def denial(self):
        kind = self.headers.get("content-type", "")
        if "cbor" in kind:
            return self.answer(403, b"\xa1\x66__type\x6cAccessDenied", content_type=kind, smithy_protocol="rpc-v2-cbor")
        if "json" in kind or ".lambda." in "." + self.headers["host"]:
            return self.answer(403, b'{"__type":"AccessDenied"}', content_type="application/json")
        error = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.answer(403, b"<ErrorResponse>" + error + b"<RequestId>r</RequestId></ErrorResponse>", content_type="text/xml")

    do_GET = do_PUT = do_POST = do_HEAD = any

    def metadata(self):
        texts = {
            "/latest/api/token": "token",
            "/latest/meta-data/placement/region": "us-east-1",
            "/latest/meta-data/placement/availability-zone/": "us-east-1a",
            "/latest/meta-data/iam/security-credentials/": "role",
            "/latest/meta-data/iam/security-credentials/role": json.dumps(KEYS),
        }
        text = texts.get(self.path)
        self.answer(404 if text is None else 200, (text or "").encode(), x_aws_ec2_metadata_token_ttl_seconds="60")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def run(*argv, **more):
    return subprocess.run(argv, check=True, **more)


def serve(dir):
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", IMDS + "/32", "dev", "lo")
    with open(f"{dir}/hosts", "w") as out:
        out.write("127.0.0.1 localhost\n" + "".join(f"{AWS} {name}\n" for name in NAMES))
    run("mount", "--bind", f"{dir}/hosts", "/etc/hosts")
    names = ",".join("DNS:" + name for name in NAMES)
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run(*new, "-subj", "/CN=root", "-keyout", f"{dir}/root.key", "-out", f"{dir}/root.pem", capture_output=True)
    run(*new, "-subj", "/CN=aws", "-addext", "subjectAltName=" + names, "-addext", "basicConstraints=critical,CA:FALSE", "-CA",
        f"{dir}/root.pem", "-CAkey", f"{dir}/root.key", "-keyout", f"{dir}/key.pem", "-out", f"{dir}/leaf.pem", capture_output=True)
    run("keytool", "-importcert", "-noprompt", "-storetype", "JKS", "-storepass", "changeit", "-keystore", f"{dir}/roots.jks",
        "-file", f"{dir}/root.pem", capture_output=True)
    run("mount", "--bind", f"{dir}/root.pem", os.path.realpath("/etc/ssl/certs/ca-certificates.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{dir}/leaf.pem", f"{dir}/key.pem")
    aws = Server((AWS, 443), Handler)
    aws.socket = context.wrap_socket(aws.socket, server_side=True, do_handshake_on_connect=False)
    for server in (aws, Server((IMDS, 80), Handler)):
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    if sys.argv[1:] != ["inside"]:
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, __file__, "inside"])
    dir = tempfile.mkdtemp()
    run("mount", "--make-rprivate", "/")
    serve(dir)
    home = f"{dir}/home"
    os.makedirs(f"{home}/.aws")
    with open(f"{home}/.aws/config", "w") as out:
        out.write(f"[default]\nregion = us-east-1\nca_bundle = {dir}/root.pem\n")
    os.makedirs(f"{dir}/bin")
    for name, path in (("aws", f"{TOOLS}/clients/bin/aws"), ("aws2", f"{TOOLS}/cli2/aws"), ("node", shutil.which("node")),
                       ("go-client", f"{TOOLS}/go/go-client"), ("rclone", f"{TOOLS}/go/rclone")):
        os.symlink(os.path.realpath(path) if name == "node" else path, f"{dir}/bin/{name}")
    env = {"PATH": f"{dir}/bin:/usr/bin:/bin", "HOME": home, "NODE_EXTRA_CA_CERTS": f"{dir}/root.pem", "LC_ALL": "C.UTF-8"}
    for name, size in (("small", 100), ("large", 70000)):
        with open(f"{dir}/{name}", "wb") as out:
            out.write(b"x" * size)
    os.makedirs(f"{dir}/from")
    os.makedirs(f"{dir}/to")
    for n in range(len(HARD)):
        with open(f"{dir}/from/{n}", "w") as out:
            out.write(f"contents {n}")
    shutil.copytree(f"{CLIENTS}/js", f"{dir}/js")
    os.symlink(f"{TOOLS}/js/node_modules", f"{dir}/js/node_modules")
    java = ["java", f"-Djavax.net.ssl.trustStore={dir}/roots.jks", "-cp", f"{TOOLS}/java:{TOOLS}/java/jars/*", "Client"]
    python, rust = f"{TOOLS}/clients/bin/python", f"{ROOT}/target/debug/tollgate-rust-client"
    s3 = lambda size, *mode: ["s3", BUCKET, "a key+with=signs", f"{dir}/{size}", f"{dir}/to/x", *mode]
    keys, lists = ["keys", BUCKET, f"{dir}/from", f"{dir}/to", *HARD], ["list", BUCKET, "env:/a b", ""]
    calls = [["sts"], s3("small"), s3("large"), keys, lists]
    clients = {
        "cli": [["sh", f"{CLIENTS}/cli/client.sh", "aws", *c] for c in calls if c is not keys],
        "cli2": [["sh", f"{CLIENTS}/cli/client.sh", "aws2", *c] for c in calls if c is not keys],
        "boto3": [[python, f"{CLIENTS}/python/client.py", *c] for c in calls] + [[python, f"{CLIENTS}/python/denied.py"]],
        "js": [["node", f"{dir}/js/client.mjs", *c] for c in calls] + [["node", f"{dir}/js/denied.mjs"]],
        "rust": [[rust, *c] for c in [*calls, ["denied"]]],
        "go": [["go-client", *c] for c in [*calls, ["denied"]]],
        "rclone": [["sh", f"{CLIENTS}/rclone/client.sh", *c] for c in (s3("small"), s3("large"))],
        "java": [[*java, *c] for c in [*calls, s3("small", "trailer"), s3("small", "signed"), s3("small", "signed-trailer"), ["denied"]]],
        "curl": [["sh", f"{CLIENTS}/curl/client.sh", *c] for c in (["sts"], ["s3", BUCKET, "a%20key", f"{dir}/small", f"{dir}/to/x"], ["dynamodb"])],
    }
    for client, commands in clients.items():
        seen.clear()
        for command in commands:
            shutil.rmtree(f"{dir}/to", ignore_errors=True)
            os.makedirs(f"{dir}/to")
            done = subprocess.run(command, env=env, cwd=dir, capture_output=True, timeout=120)
            print(client, command[-6:-4] or command[-1:], done.returncode, len(seen), done.stderr[-120:] if not seen else "")
        lines, known = [], set()
        for row in seen:
            # One of a kind: a retry or a second download says nothing new.
            kind = (row["method"], row["target"].split("&uploadId")[0], dict(row["headers"]).get("x-amz-target") or dict(row["headers"]).get("X-Amz-Target"), row.get("body", row.get("length")))
            if kind not in known:
                known.add(kind)
                lines.append(json.dumps(row, ensure_ascii=False))
        with open(f"{HERE}/{client}.jsonl", "w") as out:
            out.write("\n".join(lines) + "\n")
    shutil.rmtree(dir, ignore_errors=True)


main()
