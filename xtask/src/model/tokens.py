"""Reads from botocore's service models which members are tokens by which AWS tells that a request is sent again.

Prints a line for each signing name and member: both, and the operations. botocore marks as such whatever its clients fill
in by themselves, also names of things that a request is about (`QueryExecutionId`); only what is called like a token counts.
Runs below `cargo xtask model`; no network. Usage: tokens.py BOTOCORE_DATA
"""

import collections
import glob
import gzip
import json
import os
import sys

CALLED = ("token", "tokenid", "requestid", "operationid")
# Marked, and not such a token for all that it is called one.
NOT = {"profileToken"}
found = collections.defaultdict(set)
for directory in sorted(glob.glob(os.path.join(sys.argv[1], "*", ""))):
    versions = sorted(glob.glob(directory + "*/service-2.json.gz"))
    if not versions:
        continue
    with gzip.open(versions[-1]) as f:
        model = json.load(f)
    signing = model["metadata"].get("signingName") or model["metadata"]["endpointPrefix"]
    for name, operation in model["operations"].items():
        shape = operation.get("input", {}).get("shape")
        for member, about in model["shapes"].get(shape, {}).get("members", {}).items():
            if about.get("idempotencyToken") and member.lower().endswith(CALLED) and member not in NOT:
                found[signing, member].add(name)
for (signing, member), operations in sorted(found.items()):
    print(signing, member, *sorted(operations))
