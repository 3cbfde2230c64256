#!/bin/sh
# What cron runs after the warehouse has written its file: load it, compare a sample, and say so by the exit code.
#
#   examples/nightly_load.sh users.parquet
#
# A load that was interrupted goes on where it was when this is started again, and a second load of the same file changes
# nothing. Rejected rows are in users.rejected.ndjson: mend them, and load that file.
set -u
file="$1"

featurestore load "$file" --id user_id --event-time ts --rejected "${file%.*}.rejected.ndjson"
loaded=$?
[ "$loaded" -le 1 ] || exit "$loaded" # 1: some rows were rejected, and the others are written

featurestore verify "$file" --id user_id --event-time ts --sample 1000 || exit 3
exit "$loaded"
