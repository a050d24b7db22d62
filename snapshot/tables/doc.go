// Package tables takes single tables out of a database, page by page, without
// SQLite and without reading what belongs to others.
//
// A table is a b-tree, and so is each of its indexes (SQLite file format §1.5,
// §2.6). The pages of these trees are copied as they are into a new database,
// without gaps; only what they say of each other is changed: the numbers of
// children and of overflow pages, all of them four bytes that stay where they
// are. Written anew are the header, the schema with the new roots, the rows of
// sqlite_sequence that belong to the tables, and the pointer map where the
// database has one.
//
//	page 1         header and schema
//	pages 2, 3, …  the roots, in the order of the schema
//	then           the rest of the schema, then one tree after the other
//
// What is read is not believed: a tree that leads in circles, out of the file or
// into a page of another kind is an error that matches ErrDamaged.
package tables
