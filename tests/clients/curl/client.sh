#!/bin/sh
# curl's own SigV4 with what the metadata service hands out. Verbs and outputs are those of every client here; see tests/README.md.
set -eu
verb=$1
shift
region=us-east-1
imds=http://169.254.169.254/latest
seen=$(curl -sS -X PUT -H 'x-aws-ec2-metadata-token-ttl-seconds: 60' $imds/api/token)
get() {
    curl -sS -H "x-aws-ec2-metadata-token: $seen" "$imds/meta-data/iam/security-credentials/$1"
}
keys=$(get "$(get '')")
field() {
    printf %s "$keys" | tr -d '\n' | sed "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/"
}
id=$(field AccessKeyId) secret=$(field SecretAccessKey) token=$(field Token)
call() { # SERVICE ARGUMENTS...
    service=$1
    shift
    curl -sS --fail-with-body --aws-sigv4 "aws:amz:$region:$service" --user "$id:$secret" -H "x-amz-security-token: $token" "$@"
}
case $verb in
sts)
    call sts --data 'Action=GetCallerIdentity&Version=2011-06-15' "https://sts.$region.amazonaws.com/" |
        sed -n 's/.*<Arn>\(.*\)<\/Arn>.*/\1/p'
    ;;
s3) # BUCKET KEY FROM TO; the key as it stands in a URL
    url="https://s3.$region.amazonaws.com/$1/$2"
    # This curl hashes what it sends as data, and nothing of what it uploads.
    digest=$(sha256sum "$3")
    call s3 -H "x-amz-content-sha256: ${digest%% *}" -X PUT --data-binary "@$3" -H 'content-type: application/octet-stream' "$url" >&2
    call s3 -H 'x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -o "$4" "$url"
    ;;
dynamodb)
    call dynamodb -H 'content-type: application/x-amz-json-1.0' -H 'x-amz-target: DynamoDB_20120810.ListTables' \
        --data '{}' "https://dynamodb.$region.amazonaws.com/"
    ;;
*)
    echo "unknown verb $verb" >&2
    exit 2
    ;;
esac
