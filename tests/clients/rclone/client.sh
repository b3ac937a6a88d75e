#!/bin/sh
# rclone, a program on the Go SDK of today. Verbs and outputs are those of every client here; see tests/README.md.
set -eu
verb=$1
shift
rclone() {
    command rclone --config /dev/null --retries 1 --s3-provider AWS --s3-env-auth --s3-region us-east-1 \
        --s3-no-check-bucket --s3-upload-cutoff 5Mi --s3-chunk-size 5Mi "$@"
}
case $verb in
s3) # BUCKET KEY FROM TO
    rclone copyto "$3" ":s3:$1/$2" >&2
    rclone copyto ":s3:$1/$2" "$4" >&2
    ;;
keys) # BUCKET FROM TO KEY...
    bucket=$1 from=$2 to=$3
    shift 3
    n=0
    for key; do
        rclone copyto "$from/$n" ":s3:$bucket/$key" >&2
        n=$((n + 1))
    done
    n=0
    for key; do
        rclone copyto ":s3:$bucket/$key" "$to/$n" >&2
        n=$((n + 1))
    done
    ;;
*)
    echo "unknown verb $verb" >&2
    exit 2
    ;;
esac
