#!/usr/bin/env bash
# mongod wants the replica set's key in a file that it owns and nobody else reads; compose has it in .env.
set -euo pipefail

install -d -o mongodb -g mongodb -m 0700 /run/mongodb
install -o mongodb -g mongodb -m 0400 /dev/null /run/mongodb/replica.key
printf '%s\n' "$MONGO_REPLICA_KEY" >/run/mongodb/replica.key
unset MONGO_REPLICA_KEY

exec docker-entrypoint.sh "$@"
