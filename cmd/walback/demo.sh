#!/usr/bin/env bash
# demo.sh WALBACK tells what walback is for, with real data and the stock
# sqlite3: rows are deleted by mistake, looked at in the past, copied out of it,
# and restored. Everything happens in a temporary directory; the only store is
# another directory. It fails where anything is not as it should be.
set -euo pipefail

walback=$(realpath "$1")
json=/usr/share/iso-codes/json
place=$(mktemp -d "${TMPDIR:-/tmp}/walback-demo.XXXXXX")
daemon=

finish() {
	status=$?
	trap - EXIT
	if [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null; then
		wait "$daemon" || status=1
	fi
	for dir in history data; do
		if mountpoint -q "$place/$dir"; then umount -l "$place/$dir" || fusermount3 -uz "$place/$dir"; fi
	done
	if [ "$status" -ne 0 ] && [ -s "$place/mount.log" ]; then
		echo "the mount said:" && cat "$place/mount.log"
	fi
	rm -rf --one-file-system "$place"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
tell() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# show COMMAND: prints a line as it is typed, and runs it.
show() { printf '%s$ %s%s\n' "$dim" "$1" "$plain"; eval "$1"; }
# same WHAT A B: both must be equal.
same() {
	if [ "$2" != "$3" ]; then
		echo "NOT THE SAME: $1: $2 and $3" >&2
		exit 1
	fi
	printf '  the same: %s\n' "$1"
}

cd "$place"
PATH=$(dirname "$walback"):$PATH
mkdir data store history

tell 'An application keeps its databases in ./data, one for each customer. Mount walback over it.'
printf '%s$ walback mount data file://%s/store -history history &%s\n' "$dim" "$place" "$plain"
walback mount data "file://$place/store" -history history -cache-dir cache 2>mount.log &
daemon=$!
until mountpoint -q history; do
	kill -0 "$daemon"
	sleep 0.02
done
cat mount.log

tell 'The application uses plain SQLite. Here it loads what ISO says about countries, languages and currencies.'
mkdir data/acme
cat >load.sql <<SQL
PRAGMA journal_mode = wal;
CREATE TABLE country (alpha_2 TEXT PRIMARY KEY, alpha_3 TEXT, name TEXT, flag TEXT);
CREATE TABLE subdivision (code TEXT PRIMARY KEY, name TEXT, type TEXT, parent TEXT);
CREATE TABLE language (alpha_3 TEXT PRIMARY KEY, name TEXT, scope TEXT, type TEXT);
CREATE TABLE currency (alpha_3 TEXT PRIMARY KEY, name TEXT);
INSERT INTO country SELECT value->>'alpha_2', value->>'alpha_3', value->>'name', value->>'flag'
  FROM json_each(readfile('$json/iso_3166-1.json'), '\$.3166-1');
INSERT INTO subdivision SELECT value->>'code', value->>'name', value->>'type', value->>'parent'
  FROM json_each(readfile('$json/iso_3166-2.json'), '\$.3166-2');
INSERT INTO language SELECT value->>'alpha_3', value->>'name', value->>'scope', value->>'type'
  FROM json_each(readfile('$json/iso_639-3.json'), '\$.639-3');
INSERT INTO currency SELECT value->>'alpha_3', value->>'name'
  FROM json_each(readfile('$json/iso_4217.json'), '\$.4217');
SQL
show 'sqlite3 data/acme/db.sqlite < load.sql'
show "sqlite3 data/acme/db.sqlite \"SELECT count(*) || ' subdivisions' FROM subdivision\""
rows=$(sqlite3 data/acme/db.sqlite 'SELECT count(*) FROM subdivision')
content=$(sqlite3 data/acme/db.sqlite .sha3sum)
bytes=$(sha256sum <data/acme/db.sqlite)
instant=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
echo "It is $instant, and all is well."

tell 'Then somebody forgets half of a WHERE clause.'
show "sqlite3 data/acme/db.sqlite \"DELETE FROM subdivision WHERE type <> 'Province'\""
show "sqlite3 data/acme/db.sqlite \"SELECT count(*) || ' subdivisions' FROM subdivision\""
left=$(sqlite3 data/acme/db.sqlite 'SELECT count(*) FROM subdivision')
[ "$left" -lt "$rows" ]

tell 'The instant before is a path. The stock sqlite3 opens it:'
past=history/acme/$instant/db.sqlite
show "sqlite3 $past \"SELECT count(*) || ' subdivisions' FROM subdivision\""
same 'the number of rows then' "$(sqlite3 "$past" 'SELECT count(*) FROM subdivision')" "$rows"

tell 'Past and present in one query: what was lost?'
show "sqlite3 $past \"ATTACH 'data/acme/db.sqlite' AS now\" \\
    \"SELECT type, count(*) FROM main.subdivision WHERE code NOT IN (SELECT code FROM now.subdivision) GROUP BY 1 ORDER BY 2 DESC LIMIT 3\""

tell 'A view of the past is a file like any other: copy it.'
show "cp $past rescued.db"
show 'sqlite3 rescued.db "PRAGMA integrity_check"'
same 'the content of the copy and what was recorded' "$(sqlite3 rescued.db .sha3sum)" "$content"

tell 'Every commit is in the log:'
show 'cat history/acme/log'

tell 'Stop the mount: everything captured is shipped, and plain files are left.'
show "kill -TERM $daemon"
wait "$daemon"
daemon=
ls data/acme

tell 'The machine could be gone now: the store alone gives every instant back.'
show "walback restore -o restored.db -timestamp $instant file://$place/store/acme"
show 'sqlite3 restored.db "PRAGMA integrity_check"'
same 'the content of the restored file and what was recorded' "$(sqlite3 restored.db .sha3sum)" "$content"
same 'every byte of it and of the database file then' "$(sha256sum <restored.db)" "$bytes"

tell 'That is all: every commit, for as long as the store keeps it.'
