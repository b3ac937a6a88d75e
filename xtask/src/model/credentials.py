"""Finds what botocore's models hand out: members of answers that are credentials by their names, and AWS's own keys.

Prints JSON: operations with such members, where AWS's keys stand in their answers, and operations that need no
signature. Owns the finding only; what is done about each is in `credentials.toml`. Usage: credentials.py BOTOCORE_DATA
"""

import glob
import gzip
import json
import os
import re
import sys

DATA = sys.argv[1]
SECRET = re.compile(
    r"(accesskeyid|secretaccesskey|secretkey|sessiontoken|securitytoken|password|passphrase|privatekey|keymaterial|secret"
    r"|credentials?|token|apikey|(presigned|signed|authorized|login|signin)url|plaintext|secretstring|secretbinary)$"
)
# Pagination and the like: they open nothing.
HARMLESS = re.compile(
    r"(next|page|pagination|continuation|client|request|idempotency|creation|change|update|version|lock|sequence|starting"
    r"|previous|chunk|forward|backward|feedback|conditional|conversation|marker|resume|result)[a-z]*token$"
)
IDS, SECRETS, TOKENS, ENDS = (
    {"accesskeyid"},
    {"secretaccesskey", "secretkey"},
    {"sessiontoken"},
    {"expiration", "expiresin", "expiry", "expiresat"},
)


def squash(text):
    return re.sub(r"[^a-z]", "", text.lower())


def wire(name, member):
    return member.get("locationName", name)


class Answer:
    """The members of one answer."""

    def __init__(self, shapes):
        self.shapes, self.members, self.keys = shapes, [], []

    def read(self, name, path, wires, above):
        shape = self.shapes[name]
        if name in above or len(path) > 12:
            return
        above = above | {name}
        if shape["type"] == "list":
            self.read(shape["member"]["shape"], path + ["[]"], wires + ["*"], above)
        elif shape["type"] == "map":
            self.read(shape["value"]["shape"], path + ["{}"], wires + ["*"], above)
        elif shape["type"] == "structure":
            self.structure(shape, path, wires, above)

    def structure(self, shape, path, wires, above):
        members = shape.get("members", {})
        found = {}
        for name, member in members.items():
            target, plain = self.shapes[member["shape"]], squash(name)
            for kind, names in (("id", IDS), ("secret", SECRETS), ("token", TOKENS), ("ends", ENDS)):
                if plain in names:
                    found[kind] = wire(name, member)
            if target["type"] in ("string", "blob") and SECRET.search(plain) and not HARMLESS.search(plain):
                self.members.append(".".join(path + [name]))
            self.read(member["shape"], path + [name], wires + [wire(name, member)], above)
        if "id" in found and "secret" in found:
            self.keys.append([wires, found["id"], found["secret"], found.get("token", ""), found.get("ends", "")])


def service(name, folder):
    with gzip.open(os.path.join(folder, "service-2.json.gz")) as f:
        model = json.load(f)
    for op, o in model["operations"].items():
        unsigned = o.get("authtype") == "none" or o.get("auth") == ["smithy.api#noAuth"]
        answer = Answer(model["shapes"])
        if "output" in o:
            output = model["shapes"][o["output"]["shape"]]
            payload = output.get("payload")
            answer.read(o["output"]["shape"], [], [], frozenset())
            # The payload's members are the body.
            for key in answer.keys:
                if payload:
                    key[0] = key[0][1:]
        if unsigned or answer.members:
            yield {"service": name, "op": op, "unsigned": unsigned, "members": answer.members, "keys": answer.keys}


found = []
for name in sorted(os.listdir(DATA)):
    versions = sorted(v for v in glob.glob(f"{DATA}/{name}/*") if os.path.exists(f"{v}/service-2.json.gz"))
    if versions:
        found += service(name, versions[-1])
json.dump(found, sys.stdout)
