#!/bin/sh
# For RUSTC_WORKSPACE_WRAPPER: this workspace with its crash points. What it depends on is built as for everything else.
exec "$@" --cfg crash_points -D warnings
