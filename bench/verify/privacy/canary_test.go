package privacy

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uber/h3-go/v4" //nolint:depguard // what geo's digits are compared with
)

var hidden = Canary{"hidden", 67.1234567, -143.7654321}

// A search that finds nothing proves something only if it can find.
func TestSearch_finds(t *testing.T) {
	t.Parallel()
	cell := func(resolution int) h3.Cell {
		c, err := h3.LatLngToCell(h3.LatLng{Lat: hidden.Lat, Lng: hidden.Lng}, resolution)
		require.NoError(t, err)
		return c
	}
	double := binary.LittleEndian.AppendUint64(nil, math.Float64bits(hidden.Lng))
	for name, text := range map[string]string{
		"all_digits":       `{"latitude":67.1234567}`,
		"the_other_degree": `lng=-143.7654321 `,
		"five_decimals":    "67.12345",
		"six_decimals":     "-143.765432,",
		"five_rounded":     "67.12346",
		"six_rounded":      "67.123457",
		"an_exponent":      "x67.12345670000001x",
		"an_integer":       "671234567",
		"a_double":         "\x00" + string(double) + "\x00",
		"a_double_turned":  string(binary.BigEndian.AppendUint64(nil, math.Float64bits(hidden.Lat))),
		"a_float":          string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(hidden.Lat)))),
		"an_int":           string(binary.LittleEndian.AppendUint32(nil, 671234567)),
		"a_negative_int":   string(binary.BigEndian.AppendUint32(nil, uint32(0x1_0000_0000-1437654321))),
		"a_cell":           cell(9).String(),
		"its_parent":       cell(8).String(),
		"a_cells_number":   fmt.Sprint(uint64(cell(9))),
		"a_cells_bytes":    string(binary.LittleEndian.AppendUint64(nil, uint64(cell(8)))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := Search(Streams{"elsewhere": []byte("nothing"), "here": []byte("a " + text)}, []Canary{{"absent", 68.7654321, -144.1234567}, hidden})
			require.NotEmpty(t, found)
			for _, f := range found {
				assert.Equal(t, "here", f.Stream)
				assert.Equal(t, "hidden", f.Canary)
			}
		})
	}
	assert.Empty(t, Search(Streams{"here": []byte("67.12 -143.765 1234567 67,1234567 67.1234")}, []Canary{hidden}), "coarser than ten metres is no place")
}

func TestHasCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`"otp":"4711"`:                         true,
		`code=4711`:                            true,
		"4711":                                 true,
		"your code 4711":                       true,
		"44711":                                false,
		"0.4711":                               false,
		"4711ms after":                         true,
		"8d1c6a1b-4711-4e63-9a53-2f1d7a0c9b54": false,
		"4711-01-02T03:04:05.4711Z":            false,
	} {
		assert.Equal(t, want, HasCode([]byte(text), "4711"), text)
	}
}
