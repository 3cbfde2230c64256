package featurestore

import (
	"strconv"
	"strings"
)

// What calls take of Redis's one thread, in µs, so that none takes more than mostUs: as long nobody else is served. The
// numbers are those of featurestore/contract/costs.py and read_costs.py, which explain each; a test compares them.
const (
	mostRows = 100
	mostUs   = 1000.0
	mostMade = 1000 // values, where packed rows do not serve

	storedRowUs   = 0.7
	storedValueUs = 0.012
	castRowUs     = 2.0
	castValueUs   = 0.8
	carriedUs     = 0.008
	vectorByteUs  = 0.001
	agedRowUs     = 4.0
	agedValueUs   = 0.3
	readWindowUs  = 4.0
	addedWindowUs = 14.0

	writtenRowUs    = 4.0
	writtenValueUs  = 1.1
	mergedRowUs     = 10.0
	mergedValueUs   = 0.7
	eventUs         = 8.0
	windowUs        = 6.0
	numbersPerValue = 32
)

// readCosts is what a row takes to read: as it is stored, or by names; with times and limits of age, so much more; and where
// no row of the layout is stored.
type readCosts struct{ rowUs, agesUs, madeUs float64 }

// costsOf returns the costs of a row of these types: a packed row, or features by name.
func costsOf(types []string, stored bool) readCosts {
	values, windows := 0.0, 0.0
	for _, kind := range types {
		if strings.Contains(kind, "(") {
			values, windows = values+readWindowUs, windows+addedWindowUs-readWindowUs
		} else {
			values += storedValueUs + 4*float64(numbersOf(kind))*vectorByteUs
		}
	}
	count := float64(len(types))
	cast := castRowUs + count*castValueUs + values
	costs := readCosts{cast, agedRowUs + count*agedValueUs + windows, cast + windows}
	if stored {
		costs.rowUs = storedRowUs + values
	}
	return costs
}

// isCheaper tells whether Redis hands on a packed row, of which `others` values are not wanted, for less than features by name.
func (c readCosts) isCheaper(others int, named readCosts, aged bool) bool {
	us := c.rowUs + float64(others)*carriedUs
	if aged {
		us += float64(others) * agedValueUs
	}
	return us <= named.rowUs
}

// upsertRowUs returns what an upsert of these columns takes for a row; `features` are all of the entity, with their types.
func upsertRowUs(names []string, features map[string]string) float64 {
	given, all := 0.0, weight(features)
	for _, name := range names {
		given += weight(map[string]string{name: features[name]})
	}
	if given < all {
		return mergedRowUs + mergedValueUs*(all+given)
	}
	return writtenRowUs + writtenValueUs*all
}

// eventRowUs returns what an event takes that is counted in all windows among these features.
func eventRowUs(features map[string]string) float64 {
	us := eventUs + mergedValueUs*weight(features)
	for _, kind := range features {
		if strings.Contains(kind, "(") {
			us += windowUs
		}
	}
	return us
}

// weight returns how many scalar values take as long as these.
func weight(features map[string]string) (total float64) {
	for _, kind := range features {
		total += 1 + float64(numbersOf(kind))/numbersPerValue
	}
	return total
}

// numbersOf returns how many numbers a vector of this type has; 0 of another type.
func numbersOf(kind string) int {
	if !strings.HasPrefix(kind, "float32[") {
		return 0
	}
	count, _ := strconv.Atoi(kind[len("float32[") : len(kind)-1])
	return count
}

// rowsPerCall returns how many rows that take so long may be in one call, or calls in one write.
func rowsPerCall(us float64) int {
	switch most := int(mostUs / us); {
	case most < 1:
		return 1
	case most < mostRows:
		return most
	}
	return mostRows
}
