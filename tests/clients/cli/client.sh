#!/bin/sh
# The AWS CLI as an agent would use it: PROGRAM VERB …. Verbs and outputs are those of every client here; see tests/README.md.
set -eu
program=$1
verb=$2
shift 2
aws() {
    command "$program" "$@"
}
case $verb in
sts)
    aws sts get-caller-identity --query Arn --output text
    ;;
s3) # BUCKET KEY FROM TO
    aws s3 cp "$3" "s3://$1/$2" --no-progress >&2
    aws s3 cp "s3://$1/$2" "$4" --no-progress >&2
    ;;
tree) # BUCKET FOLDER FROM TO
    aws s3 cp "$3" "s3://$1/$2" --recursive --no-progress >&2
    aws s3 cp "s3://$1/$2" "$4" --recursive --no-progress >&2
    ;;
list) # BUCKET PREFIX DELIMITER
    aws s3api list-objects-v2 --bucket "$1" --prefix "$2" --delimiter "$3" --query 'Contents[].Key' --output json
    ;;
dynamodb) # TABLE VALUE
    aws dynamodb create-table --table-name "$1" --billing-mode PAY_PER_REQUEST \
        --attribute-definitions AttributeName=id,AttributeType=S --key-schema AttributeName=id,KeyType=HASH >&2
    aws dynamodb put-item --table-name "$1" --item "{\"id\":{\"S\":\"1\"},\"value\":{\"S\":\"$2\"}}"
    aws dynamodb get-item --table-name "$1" --key '{"id":{"S":"1"}}' --query Item.value.S --output text
    ;;
ec2) # GROUP
    id=$(aws ec2 create-security-group --group-name "$1" --description test --query GroupId --output text)
    aws ec2 describe-security-groups --group-ids "$id" --query 'SecurityGroups[0].GroupName' --output text
    ;;
sqs) # QUEUE BODY
    url=$(aws sqs create-queue --queue-name "$1" --query QueueUrl --output text)
    aws sqs send-message --queue-url "$url" --message-body "$2" >&2
    aws sqs receive-message --queue-url "$url" --wait-time-seconds 1 --query 'Messages[0].Body' --output text
    ;;
*)
    echo "unknown verb $verb" >&2
    exit 2
    ;;
esac
