#!/usr/bin/env bash
# Installs rayfed from ~/rayfed into ~/venv, with what CLOUD (aws or gcp) needs. Runs on every node, and again when the
# files or the cluster file have changed.
set -euo pipefail
cloud=$1
sudo apt-get -o DPkg::Lock::Timeout=300 update -qq    # a fresh node's own updates hold the lock
sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq python3-venv >/dev/null
[ -x ~/venv/bin/python ] || python3 -m venv ~/venv
~/venv/bin/pip install --quiet --disable-pip-version-check -c ~/rayfed/cluster/constraints.txt "$HOME/rayfed[$cloud]"
