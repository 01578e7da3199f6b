#!/bin/sh
# For RUSTC_WORKSPACE_WRAPPER: this workspace, and nothing that it depends on, with its switches.
exec "$@" --cfg sabotage
