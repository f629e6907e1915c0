package scripts

import "strings"

// slotCount is how many parts a cluster's keys fall into.
const slotCount = 16384

// slotOf is the slot of a key or channel of ours: CRC-16 (XMODEM) of what is
// between the braces, or of all where there are none. The cluster's own rule.
func slotOf(key string) uint16 {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return crc % slotCount
}

var crc16 = func() (table [256]uint16) {
	const polynomial = 0x1021
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 == 0 {
				crc <<= 1
			} else {
				crc = crc<<1 ^ polynomial
			}
		}
		table[i] = crc
	}
	return table
}()
