package pack

// mostHeld is how many bytes of leaves are written together at least, unless there
// are no more: whoever reads the end of a map of a small database has its leaves, and
// of a large one they are read many at a time.
const mostHeld = 2 << 20

// heldLeaves are leaves that wait to be written behind the groups that come
// meanwhile.
type heldLeaves struct {
	plain   []byte
	numbers []int
	ends    []int // in plain, of each
}

func (h *heldLeaves) add(n int, l *Leaf) {
	h.plain = l.append(h.plain)
	h.numbers = append(h.numbers, n)
	h.ends = append(h.ends, len(h.plain))
}

// writeLeaves writes the leaves that wait.
func (m *MapWriter) writeLeaves() error {
	begin := 0
	for i, n := range m.held.numbers {
		e := &m.root.mapped.leaves[n]
		e.off = m.off
		var err error
		if e.stored, err = m.seal(m.held.plain[begin:m.held.ends[i]]); err != nil {
			return err
		}
		begin = m.held.ends[i]
	}
	m.held = heldLeaves{plain: m.held.plain[:0], numbers: m.held.numbers[:0], ends: m.held.ends[:0]}
	return nil
}
