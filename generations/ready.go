package generations

// Ready returns nil while a generation can begin, and otherwise what Begin and
// Fork would fail with. It is cheap.
func (w *Writer) Ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fenced
}
