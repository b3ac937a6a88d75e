"""Makes requests as botocore would send them, and the host names that its rule sets produce; prints JSON lines.

Owns the oracle of `agent/tests/model.rs`: what is asked for is known here, what is made of it is the agent's business.
Nothing is sent: every request is caught before it leaves. Usage: roundtrip.py requests|endpoints [SERVICE…]
Values are random within the shapes and the same for the same TOLLGATE_SEED.
"""

import base64
import datetime
import json
import multiprocessing
import os
import random
import re
import sys

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

ACCOUNT = "123456789012"
REGION = "us-east-1"
SERVICE = ""
SEED = os.environ.get("TOLLGATE_SEED", "tollgate")
# Rule sets that look into an ARN want it whole.
ARNS = {
    "kinesis": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/some-stream",
    "cloudfront-keyvaluestore": f"arn:aws:cloudfront::{ACCOUNT}:key-value-store/12345678-1234-1234-1234-123456789012",
}
CONFIG = Config(
    retries={"total_max_attempts": 1}, parameter_validation=False, disable_request_compression=True,
    inject_host_prefix=True,
)


def text(shape, name):
    values = shape.metadata.get("enum")
    if values:
        return values[0]
    low = name.lower()
    if low == "bucket":
        return "some-bucket"
    if low == "copysource":
        return "other-bucket/some%20key"
    if low == "accountid":
        return ACCOUNT
    if low.endswith("arn"):
        if SERVICE == "kinesis" and low in ("queuearn", "channelarn"):
            return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:{low[:-3]}/some-id"
        return ARNS.get(SERVICE, f"arn:aws:{SERVICE}:{REGION}:{ACCOUNT}:thing/some-id")
    return ("some-" + low).ljust(shape.metadata.get("min", 1), "x")[: max(1, shape.metadata.get("max", 60))]


class Omit(Exception):
    """Nothing of the shape can be made that leaves a trace: it would be nested too deeply, or is no JSON."""


# Texts that two readers might read in two ways, if one of them were careless.
TEXTS = [
    "a b", "a+b", "a%2Fb", "%", "a&b=c", "a=b", "\u00fc\u4e2d\U0001f600", "<x>&amp;</x>", "]]>", '"q"', "it's", "a.1.b", "{}",
    "[1]", "null", "true", "007", "-1", "1e3", "a,b", "a;b", "#", "?x=1", "a//b", "\\", "~!*()", "2026-01-02", "line\nbreak",
]
SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


class Maker:
    """Random values within shapes; the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self, shape, name, plain):
        fixed = text(shape, name)
        low = name.lower()
        host = low in ("bucket", "copysource", "accountid", "streamid", "endpointid") or low.endswith(("arn", "url", "endpoint"))
        if shape.metadata.get("enum"):
            # The other checksums want libraries of their own.
            return fixed if "checksum" in low else self.random.choice(shape.metadata["enum"])
        if host or shape.serialization.get("jsonvalue") or shape.metadata.get("hostLabel"):
            return fixed
        if plain or self.random.random() < 0.5:
            return "".join(self.random.choice(SAFE) for _ in range(self.random.randint(1, 12)))
        return self.random.choice(TEXTS)

    def whole(self, shape):
        low, high = int(shape.metadata.get("min", -1000)), int(shape.metadata.get("max", 2**31 - 1))
        return self.random.choice([low, max(low, min(high, 1)), self.random.randint(low, max(low, min(high, 2**53)))])

    def document(self, depth=0):
        kinds = [True, 7, -1.5, "a b", None] + ([] if depth > 2 else ["list", "map"])
        kind = self.random.choice(kinds)
        if kind == "list":
            return [self.document(depth + 1) for _ in range(self.random.randint(1, 2))]
        if kind == "map":
            return {self.random.choice(["k", "Key", "a.b"]): self.document(depth + 1)}
        return kind

    def value(self, shape, name, plain=False, depth=0):
        kind = shape.type_name
        if kind == "structure":
            if getattr(shape, "is_document_type", False):
                return {"a": self.document()}
            if getattr(shape, "is_eventstream", False):
                raise NotImplementedError("event streams are not made")
            names = list(shape.members)
            self.random.shuffle(names)
            if getattr(shape, "is_tagged_union", False):
                names = names[:1] if depth < 5 else names
            found = {}
            for n in names:
                if len(found) >= (1 if getattr(shape, "is_tagged_union", False) else 3):
                    break
                try:
                    found[n] = self.value(shape.members[n], n, plain, depth + 1)
                except Omit:
                    pass
            if not found:
                raise Omit
            # In the shape's own order, as whoever writes by hand would have it.
            return {n: found[n] for n in shape.members if n in found}
        if kind in ("list", "map") and depth > 6:
            raise Omit
        if kind == "list":
            return [self.value(shape.member, name, plain, depth + 1) for _ in range(self.random.randint(1, 2))]
        if kind == "map":
            keys = {self.text(shape.key, "key", plain) for _ in range(self.random.randint(1, 2))}
            return {k: self.value(shape.value, name, plain, depth + 1) for k in sorted(keys)}
        if kind == "string":
            return self.text(shape, name, plain)
        if kind in ("integer", "long", "short", "byte", "bigInteger"):
            return self.whole(shape)
        if kind in ("float", "double", "bigDecimal"):
            return self.random.choice([1.5, 0.25, -3.0, 1024.0625])
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "blob":
            return bytes(self.random.randrange(256) for _ in range(self.random.randint(1, 12)))
        if kind == "timestamp":
            return datetime.datetime.fromtimestamp(self.random.randint(1, 2**31), datetime.timezone.utc)
        return self.text(shape, name, plain)


def parameters(shape, full, seed):
    """The required members, or all; each with random values, however deep."""
    if shape is None:
        return {}
    maker, found = Maker(seed), {}
    for name, member in shape.members.items():
        if not full and name not in shape.required_members:
            continue
        # Heads take no line breaks, and what is a list there has its commas; a dot in a path is a step.
        plain = member.serialization.get("location") in ("header", "headers", "uri") or "location" in member.serialization
        try:
            found[name] = maker.value(member, name, plain)
        except Omit:
            pass
    return found


def empty(v):
    """Whether nothing of a value is written: structures without members leave no trace in forms and XML."""
    if isinstance(v, dict):
        return all(empty(inner) for inner in v.values())
    return isinstance(v, list) and all(empty(inner) for inner in v)


def plain(shape, found):
    """What botocore's serializer is given, as JSON has it: bytes in base64, timestamps in RFC 3339."""
    kind = shape.type_name
    if found is None:
        return None
    if kind == "structure" and isinstance(found, dict):
        if getattr(shape, "is_document_type", False):
            return found
        return {n: plain(shape.members[n], v) for n, v in found.items() if n in shape.members and not empty(v)}
    if kind == "list" and isinstance(found, (list, tuple)):
        return [plain(shape.member, v) for v in found]
    if kind == "map" and isinstance(found, dict):
        return {k: plain(shape.value, v) for k, v in found.items()}
    if kind == "timestamp" and isinstance(found, datetime.datetime):
        return found.strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "blob" and isinstance(found, (bytes, str)):
        # A text is what a handler has already encoded, or what is encoded as it is.
        return base64.b64encode(found if isinstance(found, bytes) else found.encode()).decode()
    if isinstance(found, bytes):
        return found.decode("latin-1")
    return found if isinstance(found, (str, int, float, bool, dict, list)) else str(found)


class Discovered:
    """The answer of an operation that tells a client its endpoint: a cell of the service."""

    def __init__(self, service):
        cell = "query-cell1" if "query" in service else "ingest-cell1"
        found = {"Address": f"{cell}.timestream.{REGION}.amazonaws.com", "CachePeriodInMinutes": 1440}
        self.body = json.dumps({"Endpoints": [found]}).encode()

    def stream(self, *_, **__):
        yield self.body


def requests(name):
    global SERVICE
    SERVICE = name
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    out = []
    try:
        client = session.create_client(name, region_name=REGION, config=CONFIG)
    except Exception as e:
        return [{"service": name, "failed": str(e)}]
    caught = []

    def catch(request, event_name="", **_):
        caught.append(request)
        if event_name.endswith(".DescribeEndpoints"):
            return AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, Discovered(name))
        return AWSResponse(request.url, 200, {}, None)

    intent = {}

    def given(params, model, **_):
        # Behind all that botocore itself makes of the parameters.
        intent.clear()
        if model.input_shape is not None:
            intent.update(plain(model.input_shape, params))
            for n, member in model.input_shape.members.items():
                if member.serialization.get("location") == "headers" and n in intent:
                    # Names of headers have no case.
                    intent[n] = {k.lower(): v for k, v in intent[n].items()}

    client.meta.events.register("before-send", catch)
    client.meta.events.register_last("before-parameter-build", given)
    model = client.meta.service_model
    for op in model.operation_names:
        shape = model.operation_model(op).input_shape
        for full in (False, True):
            caught.clear()
            intent.clear()
            try:
                params = parameters(shape, full, f"{SEED}:{name}:{op}:{full}")
                client._make_api_call(op, params)
            except Exception as e:
                error = f"{type(e).__name__}: {e}"
            else:
                error = "nothing was sent"
            if not caught:
                out.append({"service": name, "op": op, "full": full, "failed": error[:200]})
                continue
            request = caught[-1]
            body = request.body
            if hasattr(body, "read"):
                body = b""
            if isinstance(body, str):
                body = body.encode()
            headers = [[k, v.decode("latin-1") if isinstance(v, bytes) else str(v)] for k, v in request.headers.items()]
            scope = re.search(r"Credential=[^/]+/\d+/(?:([^/]+)/)?([^/]+)/aws4_request", dict(headers).get("Authorization", ""))
            region = scope.group(1) if scope else None
            out.append({
                "service": name, "op": op, "full": full, "method": request.method, "url": request.url,
                "headers": headers, "body": base64.b64encode(body or b"").decode(), "params": dict(intent),
                "region": (region or "*") if scope else None, "scope": scope.group(2) if scope else None,
            })
    return out


S3_VARIANTS = [
    {"Bucket": "some-bucket"}, {"Bucket": "some.dotted.bucket"}, {"Bucket": "some-bucket", "Accelerate": True},
    {"Bucket": "some-bucket", "ForcePathStyle": True},
    {"Bucket": "arn:{p}:s3:{r}:" + ACCOUNT + ":accesspoint/some-point"},
    {"Bucket": "arn:{p}:s3::" + ACCOUNT + ":accesspoint/some.mrap"},
    {"Bucket": "arn:{p}:s3-object-lambda:{r}:" + ACCOUNT + ":accesspoint/some-point"},
    {"Bucket": "arn:{p}:s3-outposts:{r}:" + ACCOUNT + ":outpost/op-01234567890123456/accesspoint/some-point"},
    {"Bucket": "some-bucket--use1-az4--x-s3"}, {"Bucket": "some-bucket--use1-az4--x-s3", "UseS3ExpressControlEndpoint": True},
]
VARIANTS = {
    "s3": S3_VARIANTS,
    "s3control": [{"AccountId": ACCOUNT, "RequiresAccountId": True}],
    "dynamodb": [{"AccountId": ACCOUNT, "AccountIdEndpointMode": "preferred"}],
    "events": [{"EndpointId": "abcde.veo"}], "sesv2": [{"EndpointId": "abcde.456"}],
    "kinesis": [{"StreamARN": "arn:{p}:kinesis:{r}:" + ACCOUNT + ":stream/s", "OperationType": "data"},
                {"StreamARN": "arn:{p}:kinesis:{r}:" + ACCOUNT + ":stream/s", "OperationType": "control"}],
    "cloudfront-keyvaluestore": [{"KvsARN": "arn:{p}:cloudfront::" + ACCOUNT + ":key-value-store/1"}],
}


def endpoints(name):
    loader = Loader()
    partitions = loader.load_data("partitions")
    try:
        rules = loader.load_service_model(name, "endpoint-rule-set-1")
        meta = loader.load_service_model(name, "service-2")["metadata"]
    except Exception as e:
        return [{"service": name, "failed": str(e)}]
    provider = EndpointProvider(rules, partitions)
    known = rules["parameters"]
    seen, out = set(), []
    for partition in partitions["partitions"]:
        for region in partition["regions"]:
            for fips in (False, True):
                for dual in (False, True):
                    for variant in [{}, *VARIANTS.get(name, [])]:
                        params = {"Region": region, "UseFIPS": fips, "UseDualStack": dual}
                        for key, v in variant.items():
                            params[key] = v.format(p=partition["id"], r=region) if isinstance(v, str) else v
                        params = {k: v for k, v in params.items() if k in known}
                        try:
                            found = provider.resolve_endpoint(**params)
                        except EndpointProviderError:
                            continue
                        host = found.url.split("//")[1].split("/")[0]
                        schemes = found.properties.get("authSchemes", [])
                        scheme = next((s for s in schemes if s["name"] != "sigv4a"), schemes[0] if schemes else {})
                        row = {
                            "service": name, "host": host, "partition": partition["id"], "asked": region,
                            "region": scheme.get("signingRegion"),
                            "signing": scheme.get("signingName") or meta.get("signingName") or meta["endpointPrefix"],
                            "bucket": variant.get("Bucket") if host.startswith(str(variant.get("Bucket")) + ".") else None,
                        }
                        key = (host, row["signing"], row["region"])
                        if key not in seen:
                            seen.add(key)
                            out.append(row)
    return out


def main():
    work = {"requests": requests, "endpoints": endpoints}[sys.argv[1]]
    names = sys.argv[2:] or botocore.session.Session().get_available_services()
    with multiprocessing.Pool(min(4, os.cpu_count() or 1)) as pool:
        for rows in pool.imap(work, names, chunksize=4):
            for row in rows:
                print(json.dumps(row, separators=(",", ":")))


if __name__ == "__main__":
    main()
