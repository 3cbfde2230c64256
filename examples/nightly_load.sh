#!/bin/sh
# What cron runs after the warehouse has written its file: load it, compare a sample, and say by the exit code how it went.
#
#   examples/nightly_load.sh users-2026-05-01.parquet
#
# 0: all is loaded. 1: some rows were rejected; they are in users-2026-05-01.rejected.ndjson, to be mended and loaded, and
# the others are written. 2: the file cannot be loaded as it is. 3: the store differs from the file.
#
# A load that was interrupted goes on where it was when this is started again, and a second load of the same file changes
# nothing. Give each night's file a name of its own: one that changed since it was interrupted is refused.
set -u
[ $# -eq 1 ] || {
  echo "usage: $0 FILE" >&2
  exit 2
}
file="$1"

featurestore load "$file" --id user_id --event-time ts --rejected "${file%.*}.rejected.ndjson" || exit $?
featurestore verify "$file" --id user_id --event-time ts --sample 1000 || exit 3
