// Package cache keeps what has been fetched from a store, so that looking at
// the past costs few requests and little traffic.
//
// Objects never change, so nothing kept here is ever stale: the package only
// fetches, keeps and evicts. What is read comes through three layers:
//
//	packs      open packs (root decoded), and their decoded blocks, in memory
//	chunks     pieces of ChunkSize bytes of objects, on disk or in memory
//	store      ranged GETs, one per missing piece however many ask for it
//
// A read that follows others in sequence is read ahead of, in windows that
// grow; a read at a random place fetches the chunks it touches and no more.
//
// # The chunk file
//
// Chunks on disk lie in one file that several processes may use at once. It is
// a hash table of sets of sixteen slots; a chunk can be in any slot of its set,
// and replaces the one of the set that was not used for the longest time:
//
//	+--------+-------------------------+---------------------------+
//	| header | sets x 16 slots x 32 B  | 16 ways x sets x 8192 B   |
//	+--------+-------------------------+---------------------------+
//	  4096 B   table                     chunks
//
//	slot:  key 16 B | CRC-64/NVME of key and chunk 8 B | stamp and length 8 B
//
// The chunk of slot w of set s is the s-th of way w. The 128 chunks of an extent
// (1 MiB of an object) belong to 128 sets in a row, so that they lie together
// and are replaced together: what is missing is missing in large pieces.
//
// Integers are big-endian. The key is a hash of the store's URL, the object's
// key, its size and the number of the chunk; the last field is the
// time of the last use in milliseconds, shifted left by 16 bits, plus the
// chunk's length in bytes.
//
// The checksum makes every slot prove itself: a chunk half written by a killed
// process, two processes writing one slot, a lost write after a power cut, a
// damaged disk, they all read as "not here". So there is no log to replay, no
// lock between readers and writers, and no index to load: opening a full cache
// reads one block. The file is sparse and never grows beyond the limit.
package cache
