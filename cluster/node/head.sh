#!/usr/bin/env bash
# PostgreSQL, MLflow's server and Prometheus on the head node. Runs at each start of Ray there, after settings.py: what is there
# already stays, and new passwords take effect.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
set -a
# shellcheck source=/dev/null
. ~/.rayfed/node.env
set +a

sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-upgrade --no-install-recommends postgresql prometheus >/dev/null
read -r version cluster _ < <(pg_lsclusters --no-header)
# Nodes reach it at its private address, with a password; the firewall lets in the cluster's own nodes alone.
sudo pg_conftool "$version" "$cluster" set listen_addresses '*'
rule='host all rayfed all scram-sha-256'
sudo grep -qxF "$rule" "/etc/postgresql/$version/$cluster/pg_hba.conf" ||
    echo "$rule" | sudo tee -a "/etc/postgresql/$version/$cluster/pg_hba.conf" >/dev/null
sudo systemctl restart "postgresql@$version-$cluster"
port=$(pg_conftool -s "$version" "$cluster" show port)

as_postgres() { sudo -u postgres psql -qAt -p "$port" -v ON_ERROR_STOP=1; }
[ "$(echo "SELECT 1 FROM pg_roles WHERE rolname = 'rayfed'" | as_postgres)" ] || echo "CREATE ROLE rayfed LOGIN" | as_postgres
echo "ALTER ROLE rayfed PASSWORD '$PGPASSWORD'" | as_postgres    # on stdin: not in the list of processes
for database in rayfed mlflow mlflow_auth; do
    [ "$(echo "SELECT 1 FROM pg_database WHERE datname = '$database'" | as_postgres)" ] ||
        echo "CREATE DATABASE $database OWNER rayfed" | as_postgres
done

# systemd starts the two again when they end, and when a stopped head comes back.
for unit in mlflow.service prometheus.service; do
    sed "s|@HOME@|$HOME|; s|@USER@|$(id -un)|" "$here/$unit" | sudo tee "/etc/systemd/system/$unit" >/dev/null
done
sudo systemctl daemon-reload
sudo systemctl enable --quiet mlflow prometheus
sudo systemctl restart mlflow prometheus
