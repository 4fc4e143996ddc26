#!/usr/bin/env bash
# MLflow's server: runs and users in PostgreSQL, files in object storage, which clients reach through the server alone.
set -euo pipefail
set -a
# shellcheck source=/dev/null
. ~/.rayfed/node.env
# shellcheck source=/dev/null
. ~/.rayfed/server.env
set +a
MLFLOW_AUTH_CONFIG_PATH=$(cd "$(dirname "$0")" && pwd)/mlflow_auth.ini
export MLFLOW_AUTH_CONFIG_PATH
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false    # two processes instead of nine
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 2 \
    --backend-store-uri postgresql+psycopg://rayfed@localhost/mlflow --artifacts-destination "$MLFLOW_ARTIFACTS"
