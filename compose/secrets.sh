#!/bin/sh
# Writes random passwords for compose.yaml into secrets/, once. The folder is closed to others; the files in it are not,
# since containers read them under users of their own.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in postgres_password valkey_password; do
    [ -s "secrets/$name" ] && continue
    umask 022
    LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 >"secrets/$name"
done
echo "passwords are in $(pwd)/secrets"
