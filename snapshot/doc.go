// Package snapshot holds a database still: a [View] shows it as of one
// transaction, from packs laid over each other.
//
//	newest   segment 41-60 | . . 3 . . 6 . .|
//	         segment 21-40 | 1 . 3 . . . . .|
//	oldest   snapshot 20   | 1 2 3 4 5 6 7 8|
//	                         -----------------
//	view of transaction 55   1 2 3 4 5 6 7 8    each page from the topmost pack that has it
//
// The frames of SQLite's log are whole pages, so each page of a view is exactly
// one stored version and there is nothing to replay. Three rules complete it:
//
//   - A segment is asked only for transactions in front of those the next newer
//     one begins with. So a segment may hold more than is shown, also of a
//     lineage that was left: a generation that forked from transaction 30 lays
//     its segments over those of its parent.
//   - A page nobody stored is zeros.
//   - A page that was cut off when the database shrank, and came back when it grew
//     without being written since, is zeros too, whatever older versions of it
//     there are (package wal, PageSums, says the same of checksums).
//
// In place of the snapshot there may be a map (see package pack), which [WriteMap]
// makes of a View.
//
// The history mount, restore, and the next map all read a View: there is
// no second way to put a database together.
package snapshot
