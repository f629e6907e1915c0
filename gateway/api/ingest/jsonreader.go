package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// maxText is how many bytes of a key, string or number are kept.
const maxText = 256

// jsonReader reads JSON as a stream, a value at a time. encoding/json's Decoder
// would keep a string or a member of any length, allocates for each token, and
// gives up all of a body for one bad number.
//
// What is not asked for is passed over without recursion, so its depth costs
// nothing. It takes more than JSON: a missing value ("speed":, as templates without a value
// leave it) is null, and any bare word is a text.
type jsonReader struct {
	in       io.Reader
	left     int // bytes that may still come
	buffer   []byte
	pos, end int
	text     []byte
}

func newJSONReader(in io.Reader, limit int) *jsonReader {
	return &jsonReader{in: in, left: limit, buffer: make([]byte, 4<<10), text: make([]byte, 0, maxText)}
}

// fill reads on. An end in the middle is ErrUnreadable.
func (r *jsonReader) fill() error {
	for range 100 {
		n, err := r.in.Read(r.buffer)
		r.pos, r.end = 0, n
		if r.left -= n; r.left < 0 {
			r.end = 0
			return ErrTooLarge
		}
		if n > 0 {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errEnd
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// errEnd is the end of the body, which nothing but the root may meet.
var errEnd = fmt.Errorf("%w: %w", ErrUnreadable, io.ErrUnexpectedEOF)

// next is the next byte that is no blank. It is not taken yet.
func (r *jsonReader) next() (byte, error) {
	for {
		for r.pos < r.end {
			switch c := r.buffer[r.pos]; c {
			case ' ', '\t', '\r', '\n':
				r.pos++
			default:
				return c, nil
			}
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// empty reports whether nothing comes any more.
func (r *jsonReader) empty() (bool, error) {
	_, err := r.next()
	if err == errEnd { //nolint:errorlint // the reader's own errors may wrap the same
		return true, nil
	}
	return false, err
}

// take takes c, and nothing else will do.
func (r *jsonReader) take(c byte) error {
	switch next, err := r.next(); {
	case err != nil:
		return err
	case next != c:
		return ErrUnreadable
	}
	r.pos++
	return nil
}

// object reads an object, or passes over any other value. field is called with each
// key, which is valid until the next read, and must take the value.
func (r *jsonReader) object(field func(key []byte) error) error {
	return r.members('{', '}', func() error {
		if err := r.take('"'); err != nil {
			return err
		}
		if err := r.string(); err != nil {
			return err
		}
		if err := r.take(':'); err != nil {
			return err
		}
		return field(r.text)
	})
}

// array is object for an array. member must take the value.
func (r *jsonReader) array(member func() error) error {
	return r.members('[', ']', member)
}

func (r *jsonReader) members(open, closing byte, member func() error) error {
	switch c, err := r.next(); {
	case err != nil:
		return err
	case c != open:
		return r.skip()
	}
	r.pos++
	for {
		c, err := r.next()
		switch {
		case err != nil:
			return err
		case c == closing:
			r.pos++
			return nil
		}
		if err := member(); err != nil {
			return err
		}
		switch c, err = r.next(); {
		case err != nil:
			return err
		case c == ',':
			r.pos++
		case c != closing:
			return ErrUnreadable
		}
	}
}

// scalar reads a string, a number or a word. It is valid until the next read. null,
// an object, an array and a missing value are empty.
func (r *jsonReader) scalar() ([]byte, error) {
	c, err := r.next()
	if err != nil {
		return nil, err
	}
	switch c {
	case '"':
		r.pos++
		err = r.string()
	case '{', '[':
		return nil, r.skip()
	default:
		err = r.word()
	}
	if string(r.text) == "null" && c != '"' {
		return nil, err
	}
	return r.text, err
}

// label reads a scalar that outlives the next read.
func (r *jsonReader) label() (string, error) {
	text, err := r.scalar()
	return string(text), err
}

// number reads a number, also in a string; NaN for anything else.
func (r *jsonReader) number() (float64, error) {
	text, err := r.scalar()
	if err != nil {
		return unsaid, err
	}
	return numberOf(text), nil
}

func numberOf(text []byte) float64 {
	n, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
	if err != nil && !math.IsInf(n, 0) {
		return unsaid
	}
	return n
}

// truth reads a switch.
func (r *jsonReader) truth() (bool, error) {
	text, err := r.scalar()
	return truthOf(text), err
}

// truthOf is true for true, "true" and every number but 0.
func truthOf(text []byte) bool {
	n := numberOf(text)
	return string(bytes.ToLower(text)) == "true" || !math.IsNaN(n) && n != 0
}

// instant reads an instant.
func (r *jsonReader) instant() (instant, error) {
	text, err := r.scalar()
	return instantOf(text), err
}

// keep adds to the text, as far as there is room.
func (r *jsonReader) keep(b []byte) {
	r.text = append(r.text, b[:min(len(b), maxText-len(r.text))]...)
}

// string reads a string whose first quote has been taken. One that is longer than maxText is cut; one that is
// malformed inside is empty.
func (r *jsonReader) string() error {
	r.text = r.text[:0]
	escapes := false
	for {
		rest := r.buffer[r.pos:r.end]
		i := bytes.IndexAny(rest, `"\`)
		if i < 0 {
			r.keep(rest)
			if err := r.fill(); err != nil {
				return err
			}
			continue
		}
		r.keep(rest[:i])
		r.pos += i + 1
		if rest[i] == '"' {
			break
		}
		escapes = true
		if r.pos == r.end {
			if err := r.fill(); err != nil {
				return err
			}
		}
		r.keep([]byte{'\\', r.buffer[r.pos]})
		r.pos++
	}
	if escapes {
		r.unescape()
	}
	return nil
}

// unescape replaces the escapes in the text.
func (r *jsonReader) unescape() {
	var plain string
	_ = json.Unmarshal([]byte(`"`+string(r.text)+`"`), &plain) // malformed: empty
	r.text = append(r.text[:0], plain[:min(len(plain), maxText)]...)
}

// word reads up to the next delimiter.
func (r *jsonReader) word() error {
	r.text = r.text[:0]
	for {
		rest := r.buffer[r.pos:r.end]
		i := bytes.IndexAny(rest, ",:]}{[\" \t\r\n")
		if i >= 0 {
			r.keep(rest[:i])
			r.pos += i
			return nil
		}
		r.keep(rest)
		switch err := r.fill(); {
		case err == errEnd: //nolint:errorlint // as above
			return nil
		case err != nil:
			return err
		}
	}
}

// skip passes over a value.
func (r *jsonReader) skip() error {
	for open := 0; ; {
		c, err := r.next()
		if err != nil {
			return err
		}
		switch c {
		case '{', '[':
			open++
			r.pos++
		case '}', ']', ',', ':':
			if open == 0 {
				return nil // a missing value
			}
			if c == '}' || c == ']' {
				open--
			}
			r.pos++
		case '"':
			r.pos++
			err = r.string()
		default:
			err = r.word()
		}
		if err != nil || open == 0 {
			return err
		}
	}
}
