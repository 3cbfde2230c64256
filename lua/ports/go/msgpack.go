package featurestore

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decode returns the one msgpack value that the bytes are: nil, bool, int64, float64, string, []byte for a vector, []any,
// or map[string]any. The scripts make nothing else.
func decode(encoded []byte) (value any, err error) {
	defer func() { // of what reaches beyond the end, among others
		if wrong := recover(); wrong != nil {
			value, err = nil, fmt.Errorf("featurestore: a reply of %d bytes is not what scripts make: %v", len(encoded), wrong)
		}
	}()
	rest := decoder(encoded[:len(encoded):len(encoded)])
	value = rest.value()
	if len(rest) > 0 {
		panic("bytes stand behind its value")
	}
	return value, nil
}

// decoder is the bytes that have not been read.
type decoder []byte

func (d *decoder) take(size uint64) []byte {
	taken := (*d)[:size]
	*d = (*d)[size:]
	return taken
}

// number takes a big-endian number of 1, 2, 4 or 8 bytes.
func (d *decoder) number(size uint64) uint64 {
	var wide [8]byte
	copy(wide[8-size:], d.take(size))
	return binary.BigEndian.Uint64(wide[:])
}

func (d *decoder) value() any {
	tag := d.number(1)
	switch {
	case tag < 0x80:
		return int64(tag)
	case tag < 0x90:
		return d.pairs(tag & 0x0f)
	case tag < 0xa0:
		return d.list(tag & 0x0f)
	case tag < 0xc0:
		return string(d.take(tag & 0x1f))
	case tag == 0xc0:
		return nil
	case tag == 0xc2 || tag == 0xc3:
		return tag == 0xc3
	case tag >= 0xc4 && tag <= 0xc6:
		return append([]byte{}, d.take(d.number(1<<(tag-0xc4)))...)
	case tag == 0xca: // of a float that 32 bits hold exactly
		return float64(math.Float32frombits(uint32(d.number(4))))
	case tag == 0xcb:
		return math.Float64frombits(d.number(8))
	case tag >= 0xcc && tag <= 0xcf:
		number := d.number(1 << (tag - 0xcc))
		if number > math.MaxInt64 {
			panic("an int is beyond 64 bits with a sign")
		}
		return int64(number)
	case tag >= 0xd0 && tag <= 0xd3:
		size := uint64(1) << (tag - 0xd0)
		return int64(d.number(size)<<(64-8*size)) >> (64 - 8*size)
	case tag >= 0xd9 && tag <= 0xdb:
		return string(d.take(d.number(1 << (tag - 0xd9))))
	case tag == 0xdc || tag == 0xdd:
		return d.list(d.number(2 << (tag - 0xdc)))
	case tag == 0xde || tag == 0xdf:
		return d.pairs(d.number(2 << (tag - 0xde)))
	case tag >= 0xe0:
		return int64(int8(tag))
	}
	panic(fmt.Sprintf("no value begins with %#x", tag))
}

func (d *decoder) list(size uint64) []any {
	list := []any{} // grows by what is there, not by what a broken size claims
	for ; size > 0; size-- {
		list = append(list, d.value())
	}
	return list
}

func (d *decoder) pairs(size uint64) map[string]any {
	pairs := map[string]any{}
	for ; size > 0; size-- {
		key := d.value().(string)
		pairs[key] = d.value()
	}
	return pairs
}
