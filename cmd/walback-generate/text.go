package main

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
)

// prose writes text that compresses about as what people store does, to a third
// of its size: words, of which few are frequent and many are not, phrases that
// come again, and among them numbers that cannot be foreseen.
type prose struct {
	r       *rand.Rand
	words   []string // drawing one at random draws by frequency
	phrases []string
}

const (
	vocabulary = 3000
	drawn      = 1 << 16 // words in the table to draw from
	phrases    = 300
)

func newProse(r *rand.Rand) *prose {
	p := &prose{r: r, words: make([]string, 0, drawn)}
	var weights float64
	for rank := range vocabulary {
		weights += 1 / float64(rank+8)
	}
	for rank := range vocabulary {
		word := p.word(rank)
		share := 1 / float64(rank+8) / weights
		for range max(1, int(math.Round(share*drawn))) {
			p.words = append(p.words, word)
		}
	}
	for range phrases {
		p.phrases = append(p.phrases, strings.TrimSuffix(p.text(20+r.IntN(60)), " "))
	}
	return p
}

// word makes a word; those that are frequent are short.
func (p *prose) word(rank int) string {
	const consonants, vowels = "bcdfghklmnprstvwz", "aeiou"
	var w strings.Builder
	for range 1 + int(math.Log10(float64(rank+2))) {
		w.WriteByte(consonants[p.r.IntN(len(consonants))])
		w.WriteByte(vowels[p.r.IntN(len(vowels))])
		if p.r.IntN(3) == 0 {
			w.WriteByte(consonants[p.r.IntN(len(consonants))])
		}
	}
	return w.String()
}

// text returns about n bytes.
func (p *prose) text(n int) string {
	b := make([]byte, 0, n+24)
	for len(b) < n {
		draw := p.r.Uint64()
		low := uint32(draw)
		switch kind := draw >> 32 % 32; {
		case kind == 0:
			b = hex.AppendEncode(b, []byte{byte(low), byte(low >> 8), byte(low >> 16), byte(low >> 24)})
		case kind < 4 && len(p.phrases) > 0:
			b = append(b, p.phrases[int(low)%len(p.phrases)]...)
		default:
			b = append(b, p.words[int(low)%len(p.words)]...)
		}
		b = append(b, ' ')
	}
	return string(b)
}

// name returns a word that begins with a capital.
func (p *prose) name() string {
	w := p.words[p.r.IntN(len(p.words))]
	return strings.ToUpper(w[:1]) + w[1:]
}
