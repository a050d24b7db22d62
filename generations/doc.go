// Package generations knows what is stored, under which key and in which
// order, and what an instant means.
//
// A client is one database. Its history is a row of generations, each an
// unbroken lineage of transactions that begins with an image of the whole
// database, or forks: goes on from a transaction of a generation before it:
//
//	<client>/generations/<generation>/generation.json            what the generation is
//	                                  snapshot/<txid>.snap       image as of a transaction
//	                                  wal/<first>.wal            segment: transactions from <first> on
//	                                  wal/<first>-<last>.wal     merged segment
//	                                  wal/<first>-<last>.piece   local only: not shipped yet
//
// Transaction indexes are decimal and padded to ten digits, generations are
// sixteen hex digits whose order is creation order, so key order is time order.
//
// On the way in, a [Writer] per database takes captured transactions and saves
// them as pieces in the [Spool]; the [Shipper] merges pieces into segments and
// puts them in the [Store]. Beside the pieces, the spool keeps the checksums of
// all pages as recent transactions left them, from which a generation can be
// forked. On the way out, a [Timeline] lists what there is
// and answers an [Instant] with a [Plan].
package generations
