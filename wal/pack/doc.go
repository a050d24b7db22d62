// Package pack is the one container walback stores pages in: versions of pages
// of one or many transactions, sorted, grouped, compressed and indexed, so that
// any page as of any of those transactions is found by reading the end of the
// object and one group.
//
// Terms: a version is one page as one transaction left it, with the key
// (page number, transaction). A group is a run of versions compressed as one
// block: versions of a page as what differs from the one in front, so that a
// group has about 64 KiB of whole pages, or many more versions. A block is any
// piece of the object that is sealed and opened as a whole: a group, an index
// block, the transaction table, the root.
//
//	+--------+---------+-----+---------+---------+-----+---------+------+------+---------+
//	| header | group 0 | ... | group n | index 0 | ... | index m | txns | root | trailer |
//	+--------+---------+-----+---------+---------+-----+---------+------+------+---------+
//	   16 B                                                                       32 B
//
// Versions ascend by (page number, transaction) through the whole object, so
// versions of one page lie next to each other and an image is simply a pack in
// which every page occurs once. The index lists the exact keys of every group;
// the root lists the index blocks; the trailer says where the root is.
//
// A map is a pack too, of a kind of its own: in place of an index it has leaves,
// which tell where each page of a database lies as of one transaction, in the map
// or in other packs. It is read by the same methods; a [Reader] of a map reads
// groups of other objects as its own.
//
// docs/format.md has every byte.
package pack
